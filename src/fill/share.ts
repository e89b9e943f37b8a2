/** Work that several callers wait for: none of them can end it by leaving, and none gets a refusal meant for another. */
import { UpstreamError } from '../upstream/errors.ts'
import type { Credential } from '../upstream/upstream.ts'
import { isSameCredential } from './callers.ts'

/** Settles as `work` does, or throws the `signal`'s reason first; the work goes on without this caller. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work
  const { promise: left, reject } = Promise.withResolvers<never>()
  const leave = () => reject(signal.reason)
  signal.addEventListener('abort', leave)
  try {
    if (signal.aborted) leave()
    return await Promise.race([work, left])
  } finally {
    signal.removeEventListener('abort', leave)
    // The work's own failure belongs to those who still wait for it.
    work.catch(() => undefined)
  }
}

/**
 * Whether a failure is the answer for others too: the primary's troubles are everyone's, what it says of a caller is for
 * who asks the same as the same (law 7), and giving up is nobody else's. What was absent when the question was sent may
 * have been pushed before the one who joined it came.
 */
export function isSharedFailure(error: unknown, asksTheSame: boolean): boolean {
  if (!(error instanceof UpstreamError) || error.kind === 'aborted') return false
  if (error.kind === 'unavailable' || error.kind === 'faulty') return true
  return asksTheSame && error.kind !== 'absent'
}

/** Asks once for all who want to know the same at the same time. */
export interface SharedQuestions {
  /**
   * Joins the question under `key` that is on its way, else sends `question`. A caller who was refused by what was
   * asked for another asks again as itself, without waiting for a third.
   */
  ask(
    key: string,
    credential: Credential,
    signal: AbortSignal | undefined,
    question: () => Promise<void>,
  ): Promise<void>
}

export function createSharedQuestions(): SharedQuestions {
  const asking = new Map<string, { readonly credential: Credential; readonly answer: Promise<void> }>()

  async function askShared(
    key: string,
    credential: Credential,
    question: () => Promise<void>,
  ): Promise<void> {
    const running = asking.get(key)
    if (running) {
      try {
        return await running.answer
      } catch (error) {
        if (isSharedFailure(error, isSameCredential(running.credential, credential))) throw error
        return question()
      }
    }
    const answer = question().finally(() => asking.delete(key))
    asking.set(key, { credential, answer })
    return answer
  }

  return {
    ask: (key, credential, signal, question) => abortable(askShared(key, credential, question), signal),
  }
}
