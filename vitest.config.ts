import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "tests/**/*.test.ts"],
    exclude: ["tests/slow/**"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
  },
})
