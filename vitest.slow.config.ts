import { defineConfig } from "vitest/config"

// What takes too long for every save: `npm run test:slow`, and CI.
export default defineConfig({
  test: {
    include: ["tests/slow/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 1,
    testTimeout: 900_000,
  },
})
