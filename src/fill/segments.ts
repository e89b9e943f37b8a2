/**
 * A set of byte positions as sorted, disjoint runs: what of a blob is here, and what is being fetched. Pure.
 *
 * Kept as one ascending list of boundaries (start, end, start, end…), so that how many of them lie below a position
 * says by its parity whether the position is inside a run.
 */

/** First byte, and one past the last. */
export type Segment = readonly [startByte: number, endByte: number]

export class Segments {
  readonly #boundaries: number[] = []

  constructor(segments: Iterable<Segment> = []) {
    for (const [start, end] of segments) this.add(start, end)
  }

  get isEmpty(): boolean {
    return this.#boundaries.length === 0
  }

  /** How many positions are in the set. */
  get bytes(): number {
    return this.list().reduce((sum, [start, end]) => sum + end - start, 0)
  }

  add(startByte: number, endByte: number): void {
    if (startByte >= endByte) return
    const low = this.#countBelow(startByte)
    const high = this.#countUpTo(endByte)
    const edges = [...(low % 2 === 0 ? [startByte] : []), ...(high % 2 === 0 ? [endByte] : [])]
    this.#boundaries.splice(low, high - low, ...edges)
  }

  remove(startByte: number, endByte: number): void {
    if (startByte >= endByte) return
    const low = this.#countBelow(startByte)
    const high = this.#countUpTo(endByte)
    const edges = [...(low % 2 === 1 ? [startByte] : []), ...(high % 2 === 1 ? [endByte] : [])]
    this.#boundaries.splice(low, high - low, ...edges)
  }

  has(position: number): boolean {
    return this.#countUpTo(position) % 2 === 1
  }

  /** One past the last byte of the run that holds `position`; `position` itself when none does. */
  runEnd(position: number): number {
    const count = this.#countUpTo(position)
    return count % 2 === 1 ? (this.#boundaries[count] ?? position) : position
  }

  /** Where the gap around `position` begins; `position` itself when it is held. */
  gapStart(position: number): number {
    const count = this.#countUpTo(position)
    return count % 2 === 1 ? position : (this.#boundaries[count - 1] ?? 0)
  }

  /** Where the gap around `position` ends, `Infinity` behind the last run; `position` itself when it is held. */
  gapEnd(position: number): number {
    const count = this.#countUpTo(position)
    return count % 2 === 1 ? position : (this.#boundaries[count] ?? Number.POSITIVE_INFINITY)
  }

  /** Ascending; later changes of the set do not show in it. */
  list(): Segment[] {
    const segments: Segment[] = []
    for (let index = 0; index < this.#boundaries.length; index += 2) {
      segments.push([this.#boundaries[index] ?? 0, this.#boundaries[index + 1] ?? 0])
    }
    return segments
  }

  #countBelow(position: number): number {
    return this.#count((boundary) => boundary < position)
  }

  #countUpTo(position: number): number {
    return this.#count((boundary) => boundary <= position)
  }

  #count(isBefore: (boundary: number) => boolean): number {
    let low = 0
    let high = this.#boundaries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (isBefore(this.#boundaries[middle] ?? 0)) low = middle + 1
      else high = middle
    }
    return low
  }
}
