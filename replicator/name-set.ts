/**
 * Which names a list had, by 64 bits of their hashes: 8 bytes each, where a catalog of a million as text would take a
 * third of the replicator's memory. Two names that share a hash (once in 10^7 catalogs of that size) hide each other,
 * so nothing may be removed for being in it; what is not in it was not listed.
 */
import { hash } from 'node:crypto'

export interface NameSet {
  readonly size: number
  add(names: readonly string[]): void
  has(name: string): boolean
}

export function createNameSet(): NameSet {
  let hashes = new BigUint64Array(1024)
  let size = 0
  let sorted = true
  return {
    get size() {
      return size
    },
    add(names) {
      for (const name of names) {
        if (size === hashes.length) {
          const wider = new BigUint64Array(size * 2)
          wider.set(hashes)
          hashes = wider
        }
        hashes[size++] = hashOf(name)
      }
      sorted = false
    },
    has(name) {
      if (!sorted) hashes.subarray(0, size).sort()
      sorted = true
      return contains(hashes, size, hashOf(name))
    },
  }
}

function hashOf(name: string): bigint {
  return hash('sha256', name, 'buffer').readBigUInt64BE(0)
}

function contains(sorted: BigUint64Array, size: number, wanted: bigint): boolean {
  let low = 0
  for (let high = size; low < high; ) {
    const middle = (low + high) >>> 1
    if ((sorted[middle] ?? 0n) < wanted) low = middle + 1
    else high = middle
  }
  return low < size && sorted[low] === wanted
}
