/** Growth is found, and what is not growth is left alone. */
import { expect, it } from 'vitest'
import { type Bounds, judgeFlatness, type Sample } from './flatness.ts'

const MIB = 1024 * 1024
const BOUND: Bounds = {
  warmUpMs: 1_000,
  growthBytes: 10 * MIB,
  residentBytes: 100 * MIB,
  openFiles: 20,
  openBlobs: 5,
}
const sample = (atMs: number, mebibytes: number, more: Partial<Sample> = {}): Sample => ({
  ...{ process: 'tokyo', pid: 1, atMs, openFiles: 10, openBlobs: 0 },
  residentBytes: mebibytes * MIB,
  ...more,
})
const judge = (samples: readonly Sample[], end: Sample) =>
  judgeFlatness(samples, [end], { tokyo: BOUND }).faults

it('finds memory that grew after the warm-up, and forgives what grew within it', () => {
  const warmingUp = [sample(0, 10), sample(500, 40), sample(1_000, 50), sample(2_000, 90)]
  expect(judge(warmingUp, sample(9_000, 59))).toEqual([])
  expect(judge(warmingUp, sample(9_000, 61))).toEqual([expect.stringContaining('grew by 11 MiB')])
})

it('does not compare a process with the one that was killed before it', () => {
  const before = [sample(0, 10), sample(1_000, 20), sample(2_000, 20)]
  const after = { pid: 2 }
  expect(judge([...before, sample(3_000, 10, after)], sample(3_500, 60, after))).toEqual([])
  expect(judge(before, sample(3_500, 101, after))).toEqual([expect.stringContaining('has 101 MiB')])
})

it('finds files and blobs that stay open', () => {
  expect(judge([], sample(0, 10, { openFiles: 21 }))).toEqual([expect.stringContaining('21 files open')])
  expect(judge([], sample(0, 10, { openBlobs: 6 }))).toEqual([expect.stringContaining('6 blobs open')])
})

it('finds a process that ended by itself', () => {
  expect(judgeFlatness([sample(0, 10)], [], { tokyo: BOUND }).faults).toEqual([
    'tokyo does not run at the end',
  ])
})
