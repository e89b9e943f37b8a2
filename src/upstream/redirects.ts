/**
 * Following a blob to where the primary keeps it. The credential never reaches another origin, nor the primary again
 * once a hop has left it: that address was somebody else's choice.
 */
import { headerValue } from '../oci/headers.ts'
import type { OutgoingRequest } from './dispatcher.ts'
import { UpstreamError } from './errors.ts'
import { discard, elsewhere } from './failure.ts'
import type { ForwardAnswer } from './upstream.ts'

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])
const MAX_HOPS = 5

export interface FollowedAnswer {
  readonly answer: ForwardAnswer
  /** Whether it came from another origin than the first request went to. */
  readonly foreign: boolean
}

/**
 * Sends a GET and follows its redirects. Throws `UpstreamError`: `faulty` for a loop, more than 5 hops, a scheme that
 * is not HTTP, or a step from https down to http.
 */
export async function follow(
  send: (request: OutgoingRequest) => Promise<ForwardAnswer>,
  first: OutgoingRequest,
): Promise<FollowedAnswer> {
  const home = new URL(first.url).origin
  const visited = new Set<string>()
  let request = first
  let foreign = false
  for (;;) {
    visited.add(request.url)
    const answer = await send(request).catch((error: unknown) => {
      throw foreign ? elsewhere(error) : error
    })
    if (!REDIRECTS.has(answer.status)) return { answer, foreign }
    await discard(answer, request.headMs)
    const url = target(request.url, headerValue(answer.headers, 'location'))
    if (visited.has(url) || visited.size > MAX_HOPS) {
      throw new UpstreamError('faulty', `${visited.size} redirects and no blob`, { status: answer.status })
    }
    foreign ||= new URL(url).origin !== home
    request = {
      ...request,
      url,
      headers: foreign ? { ...first.headers, authorization: undefined } : first.headers,
    }
  }
}

function target(from: string, location: string | undefined): string {
  const url = location === undefined ? null : URL.parse(location, from)
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new UpstreamError('faulty', 'a redirect leads to no HTTP address')
  }
  if (url.protocol === 'http:' && new URL(from).protocol === 'https:') {
    throw new UpstreamError('faulty', 'a redirect leads from https to http')
  }
  // As it was written where it is absolute: a signed query must not be re-encoded.
  return location !== undefined && /^https?:\/\//i.test(location) ? location : url.href
}
