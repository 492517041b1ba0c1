// Worker threads that all run one module.
import { extname } from "node:path"
import { Piscina } from "piscina"

/**
 * @param caller `import.meta.url` of the module beside which the workers' module stands
 * @param name of that module, without its ending: the checkout and the tests run .ts, the published package .js
 * @param options.data what each worker finds as `workerData`
 * @param options.tasksAtOnce how many tasks a worker is given at once; default: one
 */
export function workerPool<Task, Answer>(
  caller: string,
  name: string,
  { threads, data, tasksAtOnce = 1 }: { threads: number; data: object; tasksAtOnce?: number },
): Piscina<Task, Answer> {
  return new Piscina({
    filename: new URL(`./${name}${extname(caller)}`, caller).href,
    minThreads: threads,
    maxThreads: threads,
    concurrentTasksPerWorker: tasksAtOnce,
    recordTiming: false,
    workerData: data,
  })
}
