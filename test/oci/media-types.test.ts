import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { acceptsLiterally, MEDIA_TYPES } from '../../src/oci/media-types.ts'

const TYPE = MEDIA_TYPES.ociManifest

describe('a media type in Accept', () => {
  it.each([
    TYPE,
    ` ${TYPE} `,
    `a/b,${TYPE}`,
    `a/b, ${TYPE};q=0.5, c/d`,
    `${TYPE}x, ${TYPE} ;v=1`,
    `x${TYPE},\t${TYPE}`,
  ])('counts where it stands by itself: %j', (accept) => {
    expect(acceptsLiterally(accept, TYPE)).toBe(true)
  })

  it.each([undefined, '', '*/*', 'application/*', `${TYPE}x`, `x${TYPE}`, `a/b;c=${TYPE}`, `a/b ${TYPE}`])(
    'does not count otherwise: %j',
    (accept) => {
      expect(acceptsLiterally(accept, TYPE)).toBe(false)
    },
  )

  it('is found as Distribution finds it, whatever else is sent', () => {
    const piece = fc.constantFrom(TYPE, 'a/b', ',', ' ', '\t', ';', 'q=1', 'x')
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const accept = pieces.join('')
        const items = accept
          .split(',')
          .map((item) => item.split(';', 1)[0]?.replaceAll(/^[ \t]+|[ \t]+$/g, ''))
        expect(acceptsLiterally(accept, TYPE)).toBe(items.includes(TYPE))
      }),
    )
  })
})
