/**
 * A list of the primary read page by page to its end, or not at all: whatever contradicts itself is `faulty`, since what
 * a list leaves out may come to be removed here (laws 5 and 12).
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags
 */
import { errorCodesOf } from '../src/oci/errors.ts'
import type { HeaderFields } from '../src/oci/headers.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import { refusal } from '../src/upstream/failure.ts'
import type { ForwardAnswer, Upstream } from '../src/upstream/upstream.ts'
import { readWhole } from '../src/upstream/whole-body.ts'

interface ListAsk {
  /** For messages: `list of tags of team/app`. */
  readonly what: string
  /** `/v2/team/app/tags/list`, as the primary wants it: GitLab's own API insists on a slash at the end. */
  readonly path: string
  /** Of the site's own credential. */
  readonly scope: string
}

export interface List<T> extends ListAsk {
  /** The items of a page's JSON; undefined when it cannot be what was asked for. */
  readonly items: (body: unknown) => readonly T[] | undefined
  /** What tells one item from another. */
  readonly key: (item: T) => string
  /** Whether NAME_UNKNOWN is an answer to this question: there is no such repository. */
  readonly mayBeAbsent: boolean
}

export interface ListPagesDeps {
  readonly upstream: Pick<Upstream, 'origin' | 'forward'>
}

export interface ListPagesOptions {
  /** Until the head of a page has become its whole body; default 30 000. */
  readonly bodyMs?: number | undefined
}

/** Non-empty pages, in the primary's order. Throws `UpstreamError`. */
export type ListPages = <T>(list: List<T>, signal?: AbortSignal) => AsyncGenerator<readonly T[]>

/** The most that Distribution and GitLab allow. */
const PAGE_ITEMS = 1000
/** Distribution 2 answers all tags of a repository in one page, whatever was asked for. */
const PAGE_MAX_BYTES = 64 * 1024 * 1024

export function createListPages({ upstream }: ListPagesDeps, options: ListPagesOptions = {}): ListPages {
  const { bodyMs = 30_000 } = options

  async function ask(list: ListAsk, query: string, signal: AbortSignal | undefined) {
    const answer = await upstream.forward({
      method: 'GET',
      url: upstream.origin + list.path + query,
      headers: { 'user-agent': 'geo-registry', accept: 'application/json', 'accept-encoding': 'identity' },
      operation: 'read',
      scope: list.scope,
      credential: { kind: 'site' },
      signal,
    })
    if (answer.status !== 200) throw await refusal(answer, { what: list.what, deadlineMs: bodyMs })
    return answer
  }

  async function* pages<T>(list: List<T>, signal?: AbortSignal): AsyncGenerator<readonly T[]> {
    const asked = new Set<string>()
    const firsts = new Set<string>()
    const lasts = new Set<string>()
    for (let query: string | undefined = `?n=${PAGE_ITEMS}`; query !== undefined; ) {
      asked.add(query)
      const isFirst: boolean = asked.size === 1
      const answer: ForwardAnswer = await ask(list, query, signal).catch((error: unknown) => {
        throw notThere(error, list.mayBeAbsent && isFirst)
      })
      const items: readonly T[] | undefined = list.items(
        json(await readWhole(answer.body, PAGE_MAX_BYTES, bodyMs)),
      )
      if (!items) throw faulty(list, 'is not what was asked for')
      query = nextQuery(list, answer)
      const [first, last] = [items[0], items.at(-1)]
      if (first === undefined || last === undefined) {
        if (query !== undefined) throw faulty(list, 'has an empty page before its end')
        return
      }
      // Only ends are kept: a catalog of millions must not be held in memory to notice that it runs in circles.
      const repeats = firsts.has(list.key(first)) || lasts.has(list.key(last))
      if (repeats || (query !== undefined && asked.has(query))) throw faulty(list, 'repeats a page')
      firsts.add(list.key(first))
      lasts.add(list.key(last))
      yield items
    }
  }
  return pages
}

/** The object of a JSON body, for `List.items`. */
export function fieldsOf(body: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof body === 'object' && body !== null && !Array.isArray(body)
    ? (body as Record<string, unknown>)
    : undefined
}

/** An array of texts; Go writes an empty one as null. Undefined for anything else. */
export function textsOf(value: unknown): readonly string[] | undefined {
  if (value === null) return []
  return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined
}

function json(bytes: Buffer | undefined): unknown {
  try {
    return JSON.parse(bytes?.toString('utf8') ?? '')
  } catch {
    return undefined // A page in HTML, or one cut short: no list, as the caller says.
  }
}

/**
 * The query of the next page. Of the link only that is used: a registry names itself by its `http.host`, which need not
 * be the name it is reached by here, and a question with the site's credential goes nowhere else.
 */
function nextQuery(list: ListAsk, answer: ForwardAnswer): string | undefined {
  const headers: HeaderFields = answer.headers
  const text = [headers['link'] ?? []].flat().join(', ')
  for (const [, target = '', parameters = ''] of text.matchAll(/<([^>]*)>((?:"[^"]*"|[^",])*)/g)) {
    if (!/;\s*rel\s*=\s*"?next"?\s*(?:;|$)/i.test(parameters)) continue
    const url = URL.parse(target, `http://registry${list.path}`)
    if (url?.pathname !== list.path || url.search === '')
      throw faulty(list, 'names a next page that is no part of it')
    return url.search
  }
  return undefined
}

/** `absent` stays only where the primary itself says NAME_UNKNOWN of a repository that was asked for. */
function notThere(error: unknown, mayBeAbsent: boolean): unknown {
  if (!(error instanceof UpstreamError) || error.kind !== 'absent') return error
  if (mayBeAbsent && error.body && errorCodesOf(error.body).includes('NAME_UNKNOWN')) return error
  return new UpstreamError('faulty', error.message, { cause: error, status: error.status })
}

function faulty(list: ListAsk, words: string): UpstreamError {
  return new UpstreamError('faulty', `the ${list.what} ${words}`, { status: 200 })
}
