/** The schedule of faults comes from its seed alone, and leaves nothing out. */
import { expect, it } from 'vitest'
import { createChance } from '../support/chance.ts'
import { endsOurs, faultText, type Storm, storms } from './faults.ts'
import { turns } from './operations.ts'

function take<T>(count: number, from: Iterator<T>): T[] {
  return Array.from({ length: count }, () => {
    const { value } = from.next()
    return value
  })
}
const first = (count: number, seed: number): Storm[] => take(count, storms(createChance(seed)))
const texts = (all: readonly Storm[]) =>
  all.flatMap(({ faults }) => faults.map(({ fault }) => faultText(fault)))

it('makes the same storms of the same seed, and others of another', () => {
  expect(first(20, 7)).toEqual(first(20, 7))
  expect(texts(first(20, 7))).not.toEqual(texts(first(20, 8)))
})

it('makes the same operations of the same seed', () => {
  for (const kind of ['reader', 'writer'] as const) {
    const some = (seed: number) => take(500, turns(createChance(seed), kind, 100))
    expect(some(3)).toEqual(some(3))
    expect(some(3)).not.toEqual(some(4))
  }
})

it('strikes in every way within the three storms of a minute, and every place in a quarter of an hour', () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const ways = new Set(first(3, seed).flatMap(({ faults }) => faults.map(({ fault }) => fault.how)))
    expect(ways.size).toBe(7 + 4)
    const places = new Set(first(45, seed).flatMap(({ faults }) => faults.map(({ fault }) => fault.target)))
    expect(places.size).toBe(4 + 7 - 1) // A line has the name of its site’s one process.
  }
})

it('never strikes one target twice in a storm, nor stops a process for longer than the relay’s proof allows', () => {
  for (const { faults } of first(500, 11)) {
    expect(new Set(faults.map(({ fault }) => fault.target)).size).toBe(faults.length)
    for (const { fault } of faults) expect(fault.forMs).toBeLessThan(fault.on === 'link' ? 7_000 : 4_000)
  }
})

it('knows which faults end a process of the product', () => {
  const process = { on: 'process', forMs: 0 } as const
  expect(endsOurs({ ...process, target: 'tokyo', how: 'kill' })).toBe(true)
  expect(endsOurs({ ...process, target: 'registry', how: 'kill' })).toBe(false)
  expect(endsOurs({ on: 'link', target: 'tokyo', how: 'cut', forMs: 0, bytes: 0 })).toBe(false)
})
