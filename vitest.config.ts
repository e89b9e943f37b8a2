import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/install.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // CI shares its machine: a test that failed runs once more, from the same seed, and the report says so.
    retry: process.env['CI'] ? 1 : 0,
  },
})
