// Ctrl-C asks once, politely: the signal is aborted and the work ends where nothing is lost. A second one ends at once.

// npm forwards the terminal's SIGINT, so that one Ctrl-C may arrive twice.
const SAME_KEYPRESS = 1000 // milliseconds

export function interruptSignal(onInterrupt: () => void): AbortSignal {
  const controller = new AbortController()
  let first = 0
  const interrupt = () => {
    if (!controller.signal.aborted) {
      first = performance.now()
      controller.abort()
      onInterrupt()
    } else if (performance.now() - first > SAME_KEYPRESS) {
      process.exit(130)
    }
  }
  process.on("SIGINT", interrupt)
  process.on("SIGTERM", interrupt)
  // Started by `pixelwise train --nproc`, which is gone.
  process.once("disconnect", interrupt)
  process.channel?.unref()
  return controller.signal
}
