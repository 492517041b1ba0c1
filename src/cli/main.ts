// The command line. Each command stands in a file of its own and is loaded only when it is called: `doctor` must
// work where the native addon does not, and --help must be quick.
import { Command, CommanderError } from "commander"
import { UserError } from "../errors.ts"
import { version } from "../version.ts"
import { GROUP_FAILED } from "./exit-codes.ts"

interface CommandFile {
  /** Adds arguments, options, help and action. */
  define(command: Command): void
}

/** To add a command: write its file and add one line here. */
const commands: Record<string, { summary: string; load: () => Promise<CommandFile> }> = {
  quickstart: {
    summary: "make a small data set, train on it, and look at the result: two minutes",
    load: () => import("./quickstart.ts"),
  },
  explore: {
    summary: "show what a data set holds, and what may be wrong with it",
    load: () => import("./explore.ts"),
  },
  train: { summary: "train a model on a VOC-style data set", load: () => import("./train.ts") },
  explain: {
    summary: "show what a configuration really does, or how two differ",
    load: () => import("./explain.ts"),
  },
  eval: { summary: "score a trained model on a split", load: () => import("./eval.ts") },
  score: { summary: "score predictions that any tool wrote", load: () => import("./score.ts") },
  report: { summary: "write the page about a run: report.html", load: () => import("./report.ts") },
  compare: { summary: "compare runs: scores, curves, images", load: () => import("./compare.ts") },
  predict: { summary: "segment images with a trained model", load: () => import("./predict.ts") },
  shapes: { summary: "write a generated data set in VOC layout", load: () => import("./shapes.ts") },
  models: { summary: "list the models, or one layer by layer", load: () => import("./models.ts") },
  weights: { summary: "list and download published weights", load: () => import("./weights.ts") },
  doctor: { summary: "show what this machine has and what is missing", load: () => import("./doctor.ts") },
}

/** What other tools call our options: commander would suggest what looks alike. */
const namesElsewhere: Readonly<Record<string, string>> = {
  "--arch": "--model",
  "--backbone": "--encoder",
  "--batch": "--batch-size",
  "--crop-size": "--crop",
  "--lr": "--learning-rate",
  "--max-iters": "--steps",
  "--num-workers": "--workers",
  "--output-dir": "--out",
  "--pretrained": "--weights",
  "--wd": "--weight-decay",
}

async function main(argv: readonly string[]): Promise<number> {
  const json = argv.includes("--json")
  const program = new Command("pixelwise")
    .description("Semantic segmentation in TypeScript on libtorch: train, evaluate and use segmentation models.")
    .version(version)
    .exitOverride()
    .configureOutput({ outputError: () => {} }) // reported below, once, like all other errors
    .addHelpText("after", "\nStart with:\n  $ pixelwise quickstart\n  $ pixelwise train --help")
  const chosen = argv.find((word) => !word.startsWith("-"))
  for (const [name, { summary, load }] of Object.entries(commands)) {
    const command = program
      .command(name)
      .description(`${summary[0]?.toUpperCase()}${summary.slice(1)}.`)
      .summary(summary)
    if (name === chosen || (chosen === "help" && argv.includes(name))) (await load()).define(command)
  }
  if (argv.length === 0) program.help({ error: false })
  try {
    await program.parseAsync(argv, { from: "user" })
    return Number(process.exitCode ?? 0)
  } catch (error) {
    const command = program.commands.find((command) => command.name() === chosen)
    return report(nameOurs(error, command), json)
  }
}

/** Of an unknown option that another tool has: what it is called here. */
function nameOurs(error: unknown, command: Command | undefined): unknown {
  const [text, name] = /^error: unknown option '([^']+)'/.exec((error as Error).message) ?? []
  const ours = namesElsewhere[name ?? ""]
  if (!command?.options.some(({ long }) => long === ours)) return error
  return new UserError(`${text?.replace("error: ", "")}; here it is called ${ours}.`)
}

/** Bad input: one sentence and 2. Training that could not go on: one sentence and 1, or 3 where the fault is another process's. Anything else is our bug: its stack and 1. */
function report(error: unknown, json: boolean): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0 // --help, --version
  if ((error as Error)?.name === "AbortError") return 130 // Ctrl-C before anything was worth keeping
  const isInput = error instanceof UserError || error instanceof CommanderError
  const { name = "", message: reason = "" } = (error ?? {}) as Partial<Error>
  const expected =
    isInput ||
    ["TrainingError", "GroupError"].includes(name) ||
    (name === "OpError" && reason.includes("out of memory"))
  const message =
    error instanceof Error ? error.message.replace(/^error: /, "").replace(/\s*\n\s*/g, " ") : String(error)
  if (json) console.log(JSON.stringify({ error: message }))
  console.error(expected ? `pixelwise: ${message}` : error)
  if (name === "GroupError") return GROUP_FAILED
  return isInput ? 2 : 1
}

// Whoever reads our output may go (pixelwise train ... | head): what was begun goes on, and nothing is said.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error
  })
}

process.exitCode = await main(process.argv.slice(2)).catch((error) => report(error, false))
