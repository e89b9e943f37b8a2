/** Reading an upstream body whole: never without a limit in bytes and in time. */
import type { Readable } from 'node:stream'
import { UpstreamError } from './errors.ts'

/**
 * The body's bytes, or undefined when there are more than `limitBytes`; the transfer is then cut. Throws
 * `UpstreamError` when it breaks off or is not complete within `deadlineMs`, however steadily it drips.
 */
export async function readWhole(
  body: Readable,
  limitBytes: number,
  deadlineMs: number,
): Promise<Buffer | undefined> {
  const timer = setTimeout(() => {
    const message = `the body was not complete within ${deadlineMs} ms`
    body.destroy(new UpstreamError('unavailable', message, { timedOut: true }))
  }, deadlineMs).unref()
  try {
    const chunks: Buffer[] = []
    let sizeBytes = 0
    for await (const chunk of body as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length
      if (sizeBytes > limitBytes) return undefined // Leaving the loop destroys the body.
      chunks.push(chunk)
    }
    return Buffer.concat(chunks, sizeBytes)
  } finally {
    clearTimeout(timer)
  }
}
