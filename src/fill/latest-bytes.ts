/**
 * The batch that came last, still in memory: followers that keep up with a fill, a hundred of them as a rule, get it
 * from here and cost no read of the file.
 */
export interface LatestBytes {
  /** Replaces what was kept. */
  keep(position: number, chunks: readonly Buffer[]): void
  /** Copies up to `length` bytes at `position`; 0 when the first of them is not here. */
  copy(target: Buffer, length: number, position: number): number
}

export function createLatestBytes(): LatestBytes {
  let start = 0
  let latest: readonly Buffer[] = []
  return {
    keep(position, chunks) {
      start = position
      latest = chunks
    },
    copy(target, length, position) {
      let copied = 0
      let chunkStart = start
      for (const chunk of latest) {
        const from = position + copied - chunkStart
        if (from >= 0 && from < chunk.length)
          copied += chunk.copy(target, copied, from, from + length - copied)
        chunkStart += chunk.length
      }
      return copied
    },
  }
}
