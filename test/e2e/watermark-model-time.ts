/**
 * Time that passes only when it is told to: what is due is done in its order, and all that it causes is done before the
 * next. Chance comes from a seed, so that a run is the same again.
 */
import { createChance } from '../support/chance.ts'

export interface VirtualTime {
  readonly nowMs: number
  /** Done so many milliseconds from now. */
  later(ms: number, run: () => void): void
  sleep(ms: number): Promise<void>
  /** Begins something that takes time. Its failure is the run's. */
  go(work: () => Promise<void>): void
  /** Of the real world (a disk): no time passes meanwhile. */
  real<T>(work: Promise<T>): Promise<T>
  /** Throws what `go` was failed by. */
  pass(ms: number): Promise<void>
  /** From 0 up to, and without, 1. */
  chance(): number
  between(min: number, max: number): number
  odds(probability: number): boolean
  pick<T>(from: readonly T[]): T
}

interface Due {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
}

export function createVirtualTime(seed: number): VirtualTime {
  const chance = createChance(seed)
  /** The next one last. */
  const due: Due[] = []
  let nowMs = 0
  let order = 0
  let underWay = 0
  let failure: { readonly error: unknown } | undefined

  function later(ms: number, run: () => void): void {
    const entry = { atMs: nowMs + Math.max(0, ms), order: order++, run }
    let low = 0
    let high = due.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((due[middle]?.atMs ?? 0) > entry.atMs) low = middle + 1
      else high = middle
    }
    due.splice(low, 0, entry)
  }

  /** Everything that waits for no time is done. */
  async function settled(): Promise<void> {
    do await new Promise<void>((resolve) => setImmediate(resolve))
    while (underWay > 0)
    if (failure) throw failure.error
  }

  return {
    get nowMs() {
      return nowMs
    },
    later,
    sleep: (ms) => new Promise((resolve) => later(ms, resolve)),
    go(work) {
      work().catch((error: unknown) => {
        failure ??= { error }
      })
    },
    async real(work) {
      underWay += 1
      try {
        return await work
      } finally {
        underWay -= 1
      }
    },
    async pass(ms) {
      const untilMs = nowMs + ms
      await settled()
      for (let next = due.at(-1); next && next.atMs <= untilMs; next = due.at(-1)) {
        due.pop()
        nowMs = next.atMs
        next.run()
        await settled()
      }
      nowMs = untilMs
    },
    chance,
    between: (min, max) => min + chance() * (max - min),
    odds: (probability) => chance() < probability,
    pick(from) {
      const picked = from[Math.floor(chance() * from.length)]
      if (picked === undefined) throw new Error('the model is wrong: nothing to pick from')
      return picked
    },
  }
}
