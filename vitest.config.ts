import { availableParallelism } from 'node:os'
import { configDefaults, defineConfig } from 'vitest/config'

/** Redis is waited for half a second there, and processes are stopped and go on: beside others they would be too late. */
const ALONE = [
  'test/{bus,coordination,freshness,queue}/**/*.test.ts',
  'test/{fill,store}/{paused,shared-*,take-over}*.test.ts',
  'test/e2e/{outage-bounds,primary-away,scaled-out*,*-redis}.test.ts',
]

export default defineConfig({
  test: {
    globalSetup: ['test/support/install.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    projects: [
      {
        extends: true,
        test: {
          name: 'together',
          include: ['test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, ...ALONE],
          // On two cores vitest would run one file at a time; they wait for half of it.
          maxWorkers: Math.max(2, availableParallelism() - 1),
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: 'alone', include: ALONE, maxWorkers: 1, sequence: { groupOrder: 1 } },
      },
    ],
  },
})
