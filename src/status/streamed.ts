/**
 * Long work answered as it goes: lines of JSON, each one of `StreamLine`, the last a `result` or an `error`. Whoever
 * stops reading stops the work. A stream without a last line was cut.
 */
import type { Context } from 'hono'
import type { Logger } from '../log.ts'
import { ControlRefused, type Progress, type Totals } from './replication-control.ts'

export type StreamLine =
  | { readonly progress: Progress }
  | { readonly item: object }
  | { readonly result: Totals }
  | { readonly error: string }

export interface StreamedWork {
  readonly signal: AbortSignal
  readonly onProgress: (progress: Progress) => void
  /** Resolves when the next may come; rejects when nobody reads any longer. */
  readonly onItem: (item: object) => Promise<void>
}

export type Streamed = (
  context: Context,
  /** Of each name only one runs at a time; undefined: any number. */
  name: string | undefined,
  work: (streamed: StreamedWork) => Promise<Totals>,
) => Response

/** A person's eye takes in no more. */
const PROGRESS_EVERY_MS = 250

export function createStreamed({ log }: { readonly log: Logger }): Streamed {
  const running = new Set<string>()

  return function streamed(context, name, work) {
    // Hono answers it as a GET whose body is neither read nor cancelled: the work would never end.
    if (context.req.method === 'HEAD') return context.body(null, 405)
    if (name !== undefined && running.has(name)) {
      return context.json({ error: `${name} is already running` }, 409)
    }
    if (name !== undefined) running.add(name)
    const { readable, writable } = new TextEncoderStream()
    const writer = writable.getWriter()
    const gone = new AbortController()
    writer.closed.catch((reason: unknown) => gone.abort(reason))
    // Who is gone before the answer began has nobody read it, and nobody cancel it.
    const { signal: left } = context.req.raw
    left.addEventListener('abort', () => void writer.abort(left.reason), { once: true })
    void run(writer, gone.signal, work)
      .catch((error: unknown) => {
        if (!gone.signal.aborted) log.error({ error, work: name }, 'an answer could not be ended')
      })
      .finally(() => name !== undefined && running.delete(name))
    return context.body(readable, 200, {
      'content-type': 'application/x-ndjson',
      'cache-control': 'no-store',
    })
  }

  async function run(
    writer: WritableStreamDefaultWriter<string>,
    signal: AbortSignal,
    work: (streamed: StreamedWork) => Promise<Totals>,
  ): Promise<void> {
    const write = async (line: StreamLine) => {
      await writer.ready
      await writer.write(`${JSON.stringify(line)}\n`)
    }
    let last: StreamLine
    try {
      const onItem = (item: object) => write({ item })
      last = { result: await work({ signal, onItem, onProgress: progressLines(writer) }) }
    } catch (error) {
      if (signal.aborted) return // Whoever asked is gone, and with them the wish for an answer.
      if (!(error instanceof ControlRefused)) log.error({ error }, 'what was asked for failed')
      last = { error: error instanceof ControlRefused ? error.message : 'internal error: see the log' }
    }
    await write(last)
    await writer.close()
  }
}

/** Lines that nobody is ready to read are left out: the next one says more. */
function progressLines(writer: WritableStreamDefaultWriter<string>): (progress: Progress) => void {
  let phase: string | undefined
  let nextAtMs = 0
  return (progress) => {
    const nowMs = performance.now()
    if (progress.phase === phase && nowMs < nextAtMs) return
    if ((writer.desiredSize ?? 0) <= 0) return
    phase = progress.phase
    nextAtMs = nowMs + PROGRESS_EVERY_MS
    // It fails when the reader is gone, which `closed` tells.
    writer.write(`${JSON.stringify({ progress } satisfies StreamLine)}\n`).catch(() => undefined)
  }
}
