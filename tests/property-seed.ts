// Property tests draw the same cases in every run, so that a change is what makes a test fail. Others: FC_SEED=7 npm test
import fc from "fast-check"

fc.configureGlobal({ seed: Number(process.env.FC_SEED ?? 20261122) })
