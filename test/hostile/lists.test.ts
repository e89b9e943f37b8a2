/** Lists of a primary that contradict themselves, lead elsewhere or never end: read to their end, or refused whole. */
import { Readable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createListPages, fieldsOf, textsOf } from '../../replicator/list-pages.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import type { ForwardAsk } from '../../src/upstream/upstream.ts'
import { HOSTILE_TIMEOUT_MS, holds, jsonWith, LATIN, mutated, SEEDED } from './hostile.ts'

const ORIGIN = 'https://primary.example.com'
const PATH = '/v2/team/app/tags/list'

const link = (() => {
  const seeds = [
    `<${PATH}?n=2&last=b>; rel="next"`,
    `<${ORIGIN}${PATH}?last=c>; rel=next`,
    `<https://evil.example.net${PATH}?last=d>; rel="next"`,
    `<//evil.example.net${PATH}?last=e>;rel="next"`,
    '</v2/_catalog?last=f>; rel="next"',
    '<?last=g>; rel="prev", <?last=h>; rel="next"',
    `${'<'.repeat(8000)}`,
    `<${'a"'.repeat(4000)}`,
  ]
  const text = fc.oneof(
    fc.constantFrom(...seeds),
    mutated(fc.constantFrom(...seeds)),
    fc.string({ unit: LATIN }),
  )
  return fc.option(fc.oneof(text, fc.array(text, { maxLength: 3 })), { nil: undefined })
})()

const body = fc.oneof(
  fc
    .array(fc.constantFrom<unknown>('a', 'b', 'c', 'd', '../x', 7, null), { maxLength: 4 })
    .map((tags) => JSON.stringify({ name: 'team/app', tags })),
  jsonWith(['name', 'tags', 'repositories'], [['a'], ['b', 'c'], 'a', null]).map((value) =>
    JSON.stringify(value),
  ),
  fc.constantFrom('', '<html>', '{"tags":["a"', '{"tags":["a"]}', '{"tags":["b"]}'),
)

describe(`a list of the primary (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('ends or is refused, and its pages are asked of the primary alone, under its own path', async () => {
    const page = fc.record({ status: fc.constantFrom(200, 200, 200, 200, 404, 500, 304, 999), link, body })
    const pages = fc.array(page, { minLength: 1, maxLength: 6 })
    const property = fc.asyncProperty(pages, async (all) => {
      const asked: string[] = []
      const upstream = {
        origin: ORIGIN,
        forward: async (ask: ForwardAsk) => {
          // Whoever is asked for ever says the same six things again and again.
          const told = all[asked.length % all.length] ?? all[0]
          asked.push(ask.url)
          expect(asked.length).toBeLessThan(1000)
          return {
            status: told?.status ?? 200,
            headers: told?.link === undefined ? {} : { link: told.link },
            body: Readable.from(Buffer.from(told?.body ?? ''), { objectMode: false }),
          }
        },
      }
      const list = {
        what: 'list of tags of team/app',
        path: PATH,
        scope: 'repository:team/app:pull',
        items: (value: unknown) => textsOf(fieldsOf(value)?.['tags']),
        key: (tag: string) => tag,
        mayBeAbsent: true,
      }
      try {
        for await (const items of createListPages({ upstream })(list)) {
          expect(items.length).toBeGreaterThan(0)
          expect(items.every((item) => typeof item === 'string')).toBe(true)
        }
      } catch (error) {
        expect(error).toBeInstanceOf(UpstreamError)
      }
      for (const url of asked) expect(url.startsWith(`${ORIGIN}${PATH}?`)).toBe(true)
    })

    await holds(property, { runs: 1500 })
  })
})
