/**
 * Whether a primary's answer to a read may be passed on as it stands (law 5). An ingress's 404 page, a sign-in page
 * with status 200 or a 5xx is not the registry's word, and must not reach a client as if it were.
 */
import { headerValue } from '../src/oci/headers.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import { refusal } from '../src/upstream/failure.ts'
import type { ForwardAnswer } from '../src/upstream/upstream.ts'

/** Statuses whose meaning depends on the body; any other below 500 is passed on with it. */
const JUDGED: readonly number[] = [401, 403, 404, 429]

/**
 * Throws `UpstreamError` for what must not be passed on. A HEAD's 404 has no body and is passed on (law 4);
 * its 401 is not: a client gets this site's challenge, whatever the method.
 */
export async function judgeRead(
  method: string | undefined,
  answer: ForwardAnswer,
  errorBodyMs: number,
): Promise<void> {
  const { status } = answer
  const contentType = headerValue(answer.headers, 'content-type')?.toLowerCase() ?? ''
  if (status === 200 && contentType.startsWith('text/')) {
    answer.body.destroy()
    throw new UpstreamError('faulty', `the primary answered with ${contentType}: is upstream.url a registry?`)
  }
  const isJudged = method === 'HEAD' ? status === 401 : JUDGED.includes(status)
  if (isJudged || status >= 500) {
    throw await refusal(answer, { what: `${method} passed on`, deadlineMs: errorBodyMs })
  }
}
