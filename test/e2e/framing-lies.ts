/** Lies about how long an answer is, and which part of a blob. */
import type { Lie } from '../support/lying-primary.ts'

/** The honest body under a Content-Length that is this much longer or shorter. */
export function lengthOffBy(bytes: number): Lie {
  return ({ response, honest }) => {
    response.writeHead(honest.status, {
      ...honest.headers,
      'content-length': String(honest.body.length + bytes),
    })
    response.end(honest.body)
  }
}

/** As a primary that knows no ranges: each of our requests is for the first 32 MiB, so all of it anyway. */
export function asWhole(lie: Lie): Lie {
  return (ask) => {
    const { 'content-range': range, ...headers } = ask.honest.headers
    return lie({ ...ask, honest: { ...ask.honest, status: 200, headers } })
  }
}

/** As if nobody knew how long it is. */
export const chunked: Lie = ({ response, honest }) => {
  response.writeHead(honest.status, honest.headers)
  response.write(honest.body.subarray(0, 1000))
  response.end(honest.body.subarray(1000))
}

/** An answer of several MiB in place of a manifest, of a length that is told or not. */
export function huge(declared: boolean): Lie {
  return ({ response, honest }) => {
    const body = Buffer.concat([honest.body, Buffer.alloc(5 * 1024 * 1024, ' ')])
    response.writeHead(200, {
      'content-type': honest.headers['content-type'] ?? '',
      ...(declared && { 'content-length': String(body.length) }),
    })
    response.end(body)
  }
}

/** The right bytes, said to be another part of the blob. */
export const wrongRange: Lie = ({ response, honest }) => {
  const { length } = honest.body
  response.writeHead(206, {
    'content-range': `bytes 7-${length - 1}/${length}`,
    'content-length': length - 7,
  })
  response.end(honest.body.subarray(7))
}
