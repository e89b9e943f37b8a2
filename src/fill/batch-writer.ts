/**
 * Gathers the chunks of a body into larger positional writes: one batch is written while the next is gathered. The
 * chunks themselves are handed to the write, nothing is copied.
 */

/** Two of these at most are held per request: with `MAX_FETCHES` requests a flight stays within 2 MiB. */
export const BATCH_BYTES: number = 256 * 1024

export interface BatchWriter {
  /** Takes a chunk, waiting while a whole batch is gathered and the one before is not written yet. */
  push(position: number, chunk: Buffer): Promise<void>
  /** Resolves when everything pushed is written. */
  flush(): Promise<void>
}

/** `write` is called for one batch at a time. What it throws comes out of the next `push` or `flush`. */
export function createBatchWriter(write: (position: number, chunks: Buffer[]) => Promise<void>): BatchWriter {
  let chunks: Buffer[] = []
  let start = 0
  let bytes = 0
  let writing: Promise<void> | undefined
  let scheduled: NodeJS.Immediate | undefined
  let failure: unknown
  let failed = false

  function begin(): void {
    clearImmediate(scheduled)
    scheduled = undefined
    if (writing || bytes === 0 || failed) return
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
    while (writing) await writing
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
      if (bytes >= BATCH_BYTES) {
        begin()
        // Still whole: the batch before is being written, and holds back whoever brings more.
        while (writing && bytes >= BATCH_BYTES) await writing
      } else if (!writing) {
        // At the end of this turn of the event loop, so that what arrived together is written together.
        scheduled ??= setImmediate(begin)
      }
    },
  }
}
