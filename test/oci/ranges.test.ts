import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseAskedRanges, parseContentRange, parseUploadRange, resolveRanges } from '../../src/oci/ranges.ts'

const resolve = (header: string | undefined, size: number) => resolveRanges(parseAskedRanges(header), size)

describe('ranges of a blob', () => {
  it.each([
    ['bytes=0-', 1000, [{ start: 0, end: 999 }]],
    ['bytes=500-1499', 1000, [{ start: 500, end: 999 }]],
    ['bytes=-500', 1000, [{ start: 500, end: 999 }]],
    ['bytes=-5000', 1000, [{ start: 0, end: 999 }]],
    [
      'bytes=0-0, 10-19',
      1000,
      [
        { start: 0, end: 0 },
        { start: 10, end: 19 },
      ],
    ],
    ['bytes=2000-, 1-2', 1000, [{ start: 1, end: 2 }]],
  ])('answers %s of %i bytes with what is there', (header, size, ranges) => {
    expect(resolve(header, size)).toEqual({ kind: 'ranges', ranges })
  })

  it.each(['bytes=1000-', 'bytes=5000-10000', 'bytes=-0', 'bytes=5-1', 'bytes=0-1,500-0'])(
    'says that %s cannot be satisfied',
    (header) => {
      expect(resolve(header, 1000)).toEqual({ kind: 'unsatisfiable' })
    },
  )

  it.each([
    undefined,
    '',
    'items=0-1',
    'bytes=',
    'bytes=a-b',
    'bytes=0-1,x',
    `bytes=${'0-1,'.repeat(99)}0-1`,
  ])('ignores %s and sends the whole', (header) => expect(resolve(header, 1000)).toEqual({ kind: 'whole' }))

  it('never names a byte that is not there', () => {
    fc.assert(
      fc.property(fc.string(), fc.nat(2000), (text, size) => {
        const wanted = resolve(`bytes=${text}`, size)
        if (wanted.kind !== 'ranges') return
        for (const { start, end } of wanted.ranges)
          expect(0 <= start && start <= end && end < size).toBe(true)
      }),
    )
  })
})

describe('ranges a registry answers with', () => {
  it('reads a Content-Range and refuses one that contradicts itself', () => {
    expect(parseContentRange('bytes 0-99/1000')).toEqual({ start: 0, end: 99, sizeBytes: 1000 })
    expect(parseContentRange('bytes 0-1000/1000')).toBeUndefined()
    expect(parseContentRange('bytes 9-3/1000')).toBeUndefined()
    expect(parseContentRange('bytes 0-99/*')).toBeUndefined()
  })

  it('reads the Range of an upload with and without its unit', () => {
    expect(parseUploadRange('0-1023')).toEqual({ start: 0, end: 1023 })
    expect(parseUploadRange('bytes=0-1023')).toEqual({ start: 0, end: 1023 })
    expect(parseUploadRange('nonsense')).toBeUndefined()
  })
})
