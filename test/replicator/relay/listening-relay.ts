/** A sites listener on a log of its own, with a watermark and a note that the test sets, and sites that ask it. */
import { gunzipSync } from 'node:zlib'
import { Agent, type Dispatcher, request } from 'undici'
import type { RelayLog } from '../../../replicator/relay/log.ts'
import type { LogGone, LogPage } from '../../../replicator/relay/page.ts'
import type { RelayWatermark } from '../../../replicator/relay/page-answer.ts'
import {
  type SitesListener,
  type SitesListenerOptions,
  startSitesListener,
} from '../../../replicator/relay/sites-listener.ts'
import { createLogger } from '../../../src/log.ts'
import { tempFolder } from '../../support/temp.ts'
import { type OpenOptions, openLog } from './log-fixture.ts'

export const TOKENS = { berlin: 'token-of-berlin', oslo: 'token-of-oslo' }

export interface RelayAnswer {
  readonly status: number
  readonly headers: Dispatcher.ResponseData['headers']
  readonly text: string
  /** Of an answer that is one. */
  readonly page: LogPage
  readonly gone: LogGone
}

export interface ListeningRelay extends AsyncDisposable {
  readonly log: RelayLog
  readonly folder: string
  readonly listener: SitesListener
  readonly agent: Agent
  readonly lines: string[]
  readonly tokens: Record<string, string>
  watermark: RelayWatermark | undefined
  note: string | undefined
  /** How often the watermark was asked for. */
  readonly looks: number
  /** Tells the listener that the watermark or the note is another. */
  changed(): void
  /** `query` as in an address; the log's id is added where it names none. */
  ask(query: string, headers?: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<RelayAnswer>
}

export async function startListeningRelay(
  options: Partial<SitesListenerOptions> = {},
  logOptions: OpenOptions = {},
): Promise<ListeningRelay> {
  await using owned = new AsyncDisposableStack()
  const folder = owned.use(await tempFolder('relay-listener'))
  const log = owned.use(await openLog(folder.path, logOptions))
  const agent = owned.adopt(new Agent({ headersTimeout: 60_000 }), (made) => made.destroy())
  const lines: string[] = []
  const tokens: Record<string, string> = { ...TOKENS }
  const listeners: (() => void)[] = []
  let looks = 0
  const state: { watermark: RelayWatermark | undefined; note: string | undefined } = {
    watermark: undefined,
    note: undefined,
  }
  const listener = owned.use(
    await startSitesListener(
      {
        relayLog: log,
        watermark: () => {
          looks += 1
          return state.watermark
        },
        note: () => state.note,
        onChange: (told) => listeners.push(told),
        log: createLogger({ destination: { write: (line) => void lines.push(line) } }),
      },
      {
        host: '127.0.0.1',
        port: 0,
        sites: Object.keys(TOKENS).map((name) => ({ name, token: () => tokens[name] ?? '' })),
        ...options,
      },
    ),
  )

  async function ask(
    query: string,
    headers: Readonly<Record<string, string>> = {},
    signal?: AbortSignal,
  ): Promise<RelayAnswer> {
    const isPath = query.startsWith('/')
    const withLog = query.includes('after') && !query.includes('log=') ? `${query}&log=${log.id}` : query
    const answer = await request(
      `http://127.0.0.1:${listener.address.port}${isPath ? query : `/log?${withLog}`}`,
      {
        headers: { authorization: `Bearer ${TOKENS.berlin}`, ...headers },
        dispatcher: agent,
        ...(signal && { signal }),
      },
    )
    const bytes = Buffer.from(await answer.body.arrayBuffer())
    const text = (answer.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes).toString()
    const parsed: unknown = JSON.parse(text)
    return {
      status: answer.statusCode,
      headers: answer.headers,
      text,
      page: parsed as LogPage,
      gone: parsed as LogGone,
    }
  }

  const ended = owned.move()
  return {
    log,
    folder: folder.path,
    listener,
    agent,
    lines,
    tokens,
    get watermark() {
      return state.watermark
    },
    set watermark(mark) {
      state.watermark = mark
    },
    get note() {
      return state.note
    },
    set note(note) {
      state.note = note
    },
    get looks() {
      return looks
    },
    changed: () => {
      for (const told of listeners) told()
    },
    ask,
    [Symbol.asyncDispose]: () => ended.disposeAsync(),
  }
}
