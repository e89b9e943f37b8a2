import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { tagListDigest } from '../../replicator/tag-list-digest.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { tagOf } from '../store/store-fixture.ts'

const a = digestOf(Buffer.from('a'))
const b = digestOf(Buffer.from('b'))
const c = digestOf(Buffer.from('c'))

describe('the digest of a list of tags', () => {
  it('is what coreutils say of GitLab’s recipe: names in byte order, each with its digest, nothing between', () => {
    const tags = new Map([
      [tagOf('v10'), a],
      [tagOf('latest'), b],
      [tagOf('V2'), c],
      [tagOf('v2'), b],
      [tagOf('_x'), a],
    ])
    const lines = [...tags].map(([tag, digest]) => `${tag}\t${digest}`).join('\n')
    const script = `LC_ALL=C sort -t '\t' -k1,1 | tr -d '\\n\\t' | sha256sum | cut -d' ' -f1`

    const expected = execFileSync('sh', ['-c', script], { input: lines, encoding: 'utf8' }).trim()

    expect(tagListDigest(tags)).toBe(expected)
  })

  it('tells a tag that points elsewhere, and one that is missing, from the same list', () => {
    const list = (...entries: [string, typeof a][]) =>
      tagListDigest(new Map(entries.map(([tag, digest]) => [tagOf(tag), digest])))

    expect(list(['x', a], ['y', b])).toBe(list(['y', b], ['x', a]))
    expect(list(['x', a], ['y', b])).not.toBe(list(['x', b], ['y', a]))
    expect(list(['x', a])).not.toBe(list(['x', a], ['y', b]))
    expect(list()).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
  })
})
