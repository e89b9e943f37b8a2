/** The queue in memory keeps the contract, and no process alive. */
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { createMemoryQueue } from '../../src/queue/memory-queue.ts'
import { PRIORITIES } from '../../src/queue/queue.ts'
import { queueContract } from '../contracts/queue.contract.ts'

const log = createLogger({ level: 'silent' })

describe('the queue in memory', () => {
  queueContract(async () => ({
    queue: createMemoryQueue({ log }),
    [Symbol.asyncDispose]: async () => {},
  }))

  describe('over long times', () => {
    afterEach(() => {
      vi.useRealTimers()
    })

    it('waits for a delay that no timer of node can hold', async () => {
      vi.useFakeTimers()
      const begun: string[] = []
      await using queue = createMemoryQueue({ log })
      queue.work(async (key) => void begun.push(key), { concurrency: 1 })
      const days = 24 * 3600 * 1000

      await queue.wake({ key: 'a', priority: PRIORITIES.event, delayMs: 60 * days })
      await vi.advanceTimersByTimeAsync(59 * days)
      expect(begun).toEqual([])
      await vi.advanceTimersByTimeAsync(days)

      expect(begun).toEqual(['a'])
    })
  })

  it('begins the next of 100 000 waiting keys without looking at the others', async () => {
    await using queue = createMemoryQueue({ log })
    let runs = 0
    const startedAt = performance.now()
    for (let count = 0; count < 100_000; count++) {
      await queue.wake({ key: `group/${count}`, priority: PRIORITIES.reconcile, delayMs: count % 2 })
    }

    const run = async () => {
      runs += 1
    }
    queue.work(run, { concurrency: 10 })
    await vi.waitFor(() => expect(runs).toBe(100_000), { timeout: 20_000 })

    expect(performance.now() - startedAt).toBeLessThan(10_000)
  })
})
