/** Asks a part that may be away: the report is wanted most when a database is, and must not wait for it. */

export type AnswerOf<T> =
  | { readonly value: T; readonly failure?: undefined }
  | { readonly value?: undefined; readonly failure: string }

/** Never rejects: what went wrong becomes the `failure`, and so does no answer within `deadlineMs`. */
export async function answerOf<T>(ask: () => T | Promise<T>, deadlineMs: number): Promise<AnswerOf<T>> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`no answer within ${deadlineMs} ms`)), deadlineMs)
  try {
    return { value: await Promise.race([Promise.try(ask), late.promise]) }
  } catch (error) {
    return { failure: reasonOf(error) }
  } finally {
    clearTimeout(timer)
  }
}

/** A refused connection to a name with several addresses has a code and no message. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.message || ('code' in error ? String(error.code) : error.name)
}
