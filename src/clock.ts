/** Microseconds, the same on all threads of the process, and for libtorch's own slices (native/profiler.cc). */
export function clock(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return 1e6 * seconds + nanoseconds / 1000
}
