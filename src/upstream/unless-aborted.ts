/** Waiting for what others wait for too: no single caller's signal may end it. */
import { UpstreamError } from './errors.ts'

/** Throws `UpstreamError` of kind `aborted` for the caller who gives up. */
export async function unlessAborted<T>(shared: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return shared
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(new UpstreamError('aborted', 'the caller gave up', { cause: signal.reason }))
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([shared, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
