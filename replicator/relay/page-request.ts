/** What a site asks for, as it stands in the address: `GET /log?after=N&log=<id>&epoch=<e>&round=<r>&wait=<ms>&settled=1`. */

export interface PageRequest {
  /** What the site has; undefined: it begins, at the newest record. */
  readonly after: number | undefined
  /** The log that `after` is of. */
  readonly log: string | undefined
  /** The watermark that the site has. */
  readonly epoch: string | undefined
  readonly round: number
  /** How long the site lets its question be held when there is nothing new; default 0. */
  readonly waitMs: number
  /** Also what was received within the last minute, though the site has it already. */
  readonly settled: boolean
}

const NUMBER = /^\d{1,15}$/

/** A sentence that says what was expected, where it is no request for a page. */
export function readPageRequest(parameters: URLSearchParams): PageRequest | string {
  const numbers = { after: 0, round: 0, wait: 0 }
  for (const name of ['after', 'round', 'wait'] as const) {
    const text = parameters.get(name) ?? '0'
    if (!NUMBER.test(text)) return `${name}: expected a number`
    numbers[name] = Number(text)
  }
  const after = parameters.has('after') ? numbers.after : undefined
  const log = parameters.get('log') ?? undefined
  if (after !== undefined && log === undefined) return 'log: expected the id of the log that "after" is of'
  return {
    after,
    log,
    epoch: parameters.get('epoch') ?? undefined,
    round: numbers.round,
    waitMs: numbers.wait,
    settled: parameters.get('settled') === '1',
  }
}
