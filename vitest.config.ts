import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/install.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // On two cores vitest would run one file at a time; they wait for half of it.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
})
