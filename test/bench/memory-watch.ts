/** Resident memory of a process while something goes on, and whether it grew. */
import { setTimeout as delay } from 'node:timers/promises'
import type { GeoRegistry } from '../support/geo-registry.ts'
import { median } from './measure.ts'
import { mebibytes } from './report.ts'

const EVERY_MS = 200
/** What a heap that collects its garbage may swing by. */
const FLAT = 1.1

export interface MemoryWatch {
  /** The kernel's own high-water mark. */
  readonly peakBytes: number
  /** Medians of the three thirds of the time. */
  readonly thirds: readonly [number, number, number]
  /** The last third is no higher than the one before it, but for a tenth: what stands still does not leak. */
  readonly flat: boolean
}

export async function watchMemory(site: GeoRegistry, work: () => Promise<unknown>): Promise<MemoryWatch> {
  const samples: number[] = []
  const done = new AbortController()
  const sampling = (async () => {
    while (!done.signal.aborted) {
      samples.push((await site.memory()).residentBytes)
      await delay(EVERY_MS)
    }
  })()
  try {
    await work()
  } finally {
    done.abort()
    await sampling
  }
  const third = Math.ceil(samples.length / 3)
  const [first, second, last] = [0, 1, 2].map((index) =>
    median(samples.slice(index * third, (index + 1) * third)),
  ) as [number, number, number]
  const { peakBytes } = await site.memory()
  return { peakBytes, thirds: [first, second, last], flat: last <= second * FLAT }
}

export function describeMemory({ peakBytes, thirds }: MemoryWatch): string {
  return `peak ${mebibytes(peakBytes)}, by thirds of the time ${thirds.map((bytes) => Math.round(bytes / 2 ** 20)).join(', ')}`
}
