/** What turns owe those who take them, within one process and between two that change the same things. */
import { setImmediate as nextRound } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { KeyedMutex } from '../../src/store/keyed-mutex.ts'

export interface Turns extends AsyncDisposable {
  readonly one: KeyedMutex
  /** Another process' view of the same keys; the same object where there is only one process. */
  readonly other: KeyedMutex
}

export function keyedMutexContract(make: () => Promise<Turns>): void {
  let turns: Turns
  beforeEach(async () => {
    turns = await make()
  })
  afterEach(() => turns[Symbol.asyncDispose]())

  describe('turns', () => {
    it('come one after another per key, in the order asked for in a process', async () => {
      const log: number[] = []
      const work = (at: number) => async () => {
        log.push(at)
        for (let round = 0; round < 3; round++) await nextRound()
        log.push(at)
        return at
      }

      const done = await Promise.all([1, 2, 3, 4].map((at) => turns.one.run('key', work(at))))

      expect(done).toEqual([1, 2, 3, 4])
      expect(log).toEqual([1, 1, 2, 2, 3, 3, 4, 4])
    })

    it('are never had by two at once, whoever asks', async () => {
      let inside = 0
      let most = 0
      const work = async () => {
        inside += 1
        most = Math.max(most, inside)
        for (let round = 0; round < 3; round++) await nextRound()
        inside -= 1
      }

      const asked = Array.from({ length: 40 }, (_, at) => (at % 2 ? turns.one : turns.other).run('key', work))
      await Promise.all(asked)

      expect([most, inside]).toEqual([1, 0])
    })

    it('of another key are not waited for', async () => {
      const gate = Promise.withResolvers<void>()
      const held = turns.one.run('key', () => gate.promise)

      expect(await turns.one.run('other key', async () => 'mine')).toBe('mine')
      expect(await turns.other.run('a third', async () => 'mine too')).toBe('mine too')

      gate.resolve()
      await held
    })

    it('that fail tell their own caller, and the next comes all the same', async () => {
      const failing = turns.one.run('key', () => Promise.reject(new Error('no')))
      const next = turns.one.run('key', async () => 'next')
      const others = turns.other.run('key', async () => 'of the other')

      await expect(failing).rejects.toThrow('no')
      expect([await next, await others]).toEqual(['next', 'of the other'])
    })

    it('that were asked for are over when all is idle', async () => {
      let ended = 0
      for (let at = 0; at < 5; at++) {
        void turns.one.run(`key ${at % 2}`, async () => {
          await nextRound()
          ended += 1
        })
      }

      await turns.one.idle()

      expect(ended).toBe(5)
    })

    it('come to the other as well while one always has more to do', async () => {
      let had = false
      const others = turns.one.run('key', () =>
        Promise.resolve().then(() => {
          void turns.other.run('key', async () => {
            had = true
          })
        }),
      )
      await others
      let taken = 0
      while (!had && taken < 1000) {
        await turns.one.run('key', nextRound)
        taken += 1
      }
      await turns.other.idle()

      expect(had).toBe(true)
      expect(taken).toBeLessThan(10)
    })
  })
}
