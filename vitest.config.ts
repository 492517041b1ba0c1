import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "tests/**/*.test.ts"],
    exclude: ["tests/slow/**"],
    setupFiles: ["tests/property-seed.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    // Two test files run at once; with two threads each they would wait for each other at every operator.
    env: { OMP_NUM_THREADS: "1" },
  },
})
