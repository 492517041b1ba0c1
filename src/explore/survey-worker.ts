// The worker thread of survey.ts: inspects the entries that it is sent.
import { workerData } from "node:worker_threads"
import { createInspector, type InspectorSetup } from "./inspect.ts"

export default createInspector(workerData as InspectorSetup)
