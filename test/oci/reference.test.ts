import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { digestOf, parseDigest } from '../../src/oci/digest.ts'
import { parseReference, parseRepositoryName, parseTag } from '../../src/oci/reference.ts'

describe('repository names', () => {
  it.each(['a', 'library/busybox', 'a.b/c_d/e__f/g-h/i---j', '0/1', 'a'.repeat(255)])('takes %s', (name) => {
    expect(parseRepositoryName(name)).toBe(name)
  })

  it.each([
    '',
    '/',
    'a/',
    '/a',
    'a//b',
    'A/b',
    '..',
    'a/../b',
    '.a',
    'a.',
    'a..b',
    'a___b',
    'a\0b',
    'a%2Fb',
    'a b',
    'é',
    '_layers',
    'a/_uploads',
    'a'.repeat(256),
  ])('refuses %j, which would not be a repository anywhere', (name) => {
    expect(parseRepositoryName(name)).toBeUndefined()
  })

  it('answers at once for ten thousand characters made to confuse it', () => {
    expect(parseRepositoryName(`${'a-'.repeat(5000)}!`)).toBeUndefined()
    expect(parseRepositoryName(`${'a__'.repeat(80)}!`)).toBeUndefined()
  })

  it('never takes a name that could leave its folder', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const name = parseRepositoryName(text)
        expect(name === undefined || !/(^|\/)\.|\/\/|\0|%|\\|(^|\/)_/.test(name)).toBe(true)
      }),
    )
  })
})

describe('references', () => {
  const digest = digestOf(Buffer.from('x'))

  it('tells a tag from a digest by its colon', () => {
    expect(parseReference('v1.0')).toEqual({ kind: 'tag', tag: 'v1.0' })
    expect(parseReference(digest)).toEqual({ kind: 'digest', digest })
  })

  it.each([
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(63)}`,
    'md5:d41d8cd98f00b204e9800998ecf8427e',
    `sha512:${'a'.repeat(64)}`,
    'sha256:baddigeststring',
    ':',
  ])('refuses the digest %s', (text) => {
    expect(parseDigest(text)).toBeUndefined()
    expect(parseReference(text)).toBeUndefined()
  })

  it.each(['.hidden', '-x', 'a/b', '', 'a'.repeat(129)])('refuses the tag %j', (text) => {
    expect(parseTag(text)).toBeUndefined()
  })
})
