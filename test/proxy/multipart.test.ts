import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { multipartOf } from '../../proxy/multipart.ts'
import { parseAskedRanges, resolveRanges } from '../../src/oci/ranges.ts'

const CONTENT = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251))

/** What a client would receive. */
function bodyFor(range: string | undefined) {
  const wanted = resolveRanges(parseAskedRanges(range), CONTENT.length)
  if (wanted.kind === 'unsatisfiable') throw new Error('nothing to answer with')
  const { parts, epilogue, ...head } = multipartOf(wanted, CONTENT.length)
  const pieces = parts.flatMap(({ preamble, start, end }) => [
    Buffer.from(preamble),
    CONTENT.subarray(start, end),
  ])
  return { ...head, body: Buffer.concat([...pieces, Buffer.from(epilogue)]) }
}

describe('bodies cut by ranges', () => {
  it('sends the whole with 200 when no range was asked for', () => {
    const { status, body } = bodyFor(undefined)
    expect([status, body.equals(CONTENT)]).toEqual([200, true])
  })

  it('sends one range with 206 and where it lies', () => {
    const { status, headers, body } = bodyFor('bytes=10-19')
    expect([status, headers['content-range'], [...body]]).toEqual([
      206,
      'bytes 10-19/1000',
      [...CONTENT.subarray(10, 20)],
    ])
  })

  it('sends several as multipart, which a MIME parser takes apart into what was asked for', () => {
    const { headers, body } = bodyFor('bytes=0-4,100-109,-3')
    const boundary = /boundary=(\w+)$/.exec(headers['content-type'] ?? '')?.[1]
    const parts = body.toString('latin1').split(`--${boundary}`).slice(1, -1)

    expect(parts.map((part) => part.split('\r\n')[2])).toEqual([
      'content-range: bytes 0-4/1000',
      'content-range: bytes 100-109/1000',
      'content-range: bytes 997-999/1000',
    ])
    const contents = parts.map((part) => Buffer.from(part.split('\r\n\r\n')[1]?.slice(0, -2) ?? '', 'latin1'))
    expect(Buffer.concat(contents)).toEqual(
      Buffer.concat([CONTENT.subarray(0, 5), CONTENT.subarray(100, 110), CONTENT.subarray(997)]),
    )
  })

  it('always declares the length it sends', () => {
    const range = fc.tuple(fc.nat(1200), fc.nat(1200)).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`)
    fc.assert(
      fc.property(fc.array(range, { minLength: 1, maxLength: 8 }), (ranges) => {
        const header = `bytes=0-0,${ranges.join(',')}`
        const { headers, body } = bodyFor(header)
        expect(Number(headers['content-length'])).toBe(body.length)
      }),
    )
  })
})
