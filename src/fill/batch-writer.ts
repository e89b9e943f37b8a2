/**
 * Gathers the chunks of a body into larger positional writes: one batch is written while the next is gathered. The
 * chunks themselves are handed to the write, nothing is copied.
 */

/**
 * What a flight holds of bodies that are not written yet, over all its requests. One request fills batches of 512 KiB
 * with it: below that the hand-over to the thread that writes costs more than the write.
 */
export const FLIGHT_BUFFER_BYTES: number = 1024 * 1024

export interface BatchWriter {
  /** Takes a chunk, waiting while a whole batch is gathered and the one before is not written yet. */
  push(position: number, chunk: Buffer): Promise<void>
  /** Resolves when everything pushed is written. */
  flush(): Promise<void>
}

/**
 * `write` is called for one batch at a time; what it throws comes out of the next `push` or `flush`. `batchBytes` says
 * what makes a batch whole, now.
 */
export function createBatchWriter(
  write: (position: number, chunks: Buffer[]) => Promise<void>,
  batchBytes: () => number,
): BatchWriter {
  let chunks: Buffer[] = []
  let start = 0
  let bytes = 0
  let writing: Promise<void> | undefined
  let hasBegun = false
  let scheduled: NodeJS.Immediate | undefined
  let failure: unknown
  let failed = false

  function begin(): void {
    clearImmediate(scheduled)
    scheduled = undefined
    if (writing !== undefined || bytes === 0 || failed) return
    hasBegun = true
    const batch = chunks
    chunks = []
    bytes = 0
    writing = write(start, batch).then(
      () => {
        writing = undefined
        begin()
      },
      (error: unknown) => {
        writing = undefined
        failure = error
        failed = true
      },
    )
  }

  async function flush(): Promise<void> {
    begin()
    while (writing !== undefined) await writing
    if (failed) throw failure
  }

  return {
    flush,
    async push(position, chunk) {
      if (bytes > 0 && position !== start + bytes) await flush()
      if (failed) throw failure
      if (bytes === 0) start = position
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes >= batchBytes()) {
        begin()
        // Still whole: the batch before is being written, and holds back whoever brings more.
        while (writing !== undefined && bytes >= batchBytes()) await writing
      } else if (!hasBegun) {
        begin() // Somebody's first byte waits for no others.
      } else if (writing === undefined) {
        // At the end of this turn of the event loop, so that what arrived together is written together.
        scheduled ??= setImmediate(begin)
      }
    },
  }
}
