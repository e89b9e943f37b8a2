import { describe, expect, it } from 'vitest'
import { createChance } from '../../support/chance.ts'
import { chartOf } from './chart.ts'
import { type Comparison, middle, shuffled } from './comparison.ts'
import type { ContenderName } from './contender.ts'
import { countRequests, FULL_MEASURES } from './course.ts'
import type { Figure, RowId } from './rows.ts'
import { markdownComparison, textComparison } from './table.ts'

type Given = Partial<Record<ContenderName, readonly (number | Figure)[]>>

function comparisonOf(rows: Partial<Record<RowId, Given>>, failures: readonly string[] = []): Comparison {
  const figures = (given: readonly (number | Figure)[] = []) =>
    given.map((figure) => (typeof figure === 'number' ? { value: figure } : figure))
  return {
    measures: FULL_MEASURES,
    rounds: 1,
    seed: 1,
    failures,
    rows: Object.entries(rows).map(([id, given]) => ({
      id: id as RowId,
      figures: {
        'geo-registry': figures(given['geo-registry']),
        'docker-registry': figures(given['docker-registry']),
        NGINX: figures(given.NGINX),
      },
    })),
  }
}

/** Thousands are parted by a narrow space that nobody sees. */
const plain = (text: string) => text.replaceAll('\u202f', ' ')
const line = (table: string, words: string) =>
  plain(table)
    .split('\n')
    .find((row) => row.includes(words)) ?? ''

describe('the table of peers', () => {
  it('says how many times better we are, whether more or less is better', () => {
    const table = markdownComparison(
      comparisonOf({
        manifestByDigest: { 'geo-registry': [1000], 'docker-registry': [100], NGINX: [4000] },
        coldBigWhole: { 'geo-registry': [1000], 'docker-registry': [3000], NGINX: [500] },
      }),
    )

    expect(line(table, 'by digest')).toContain('| 1 000/s | 100/s (10.0 ×) | **4 000/s (0.250 ×)** |')
    expect(line(table, 'whole')).toContain('| 1 000 ms | 3 000 ms (3.0 ×) | **500 ms (0.500 ×)** |')
  })

  it('takes the median of the rounds, not the best of them', () => {
    const table = textComparison(comparisonOf({ manifestByDigest: { 'geo-registry': [1, 900, 5, 7, 2] } }))

    expect(line(table, 'by digest')).toMatch(/ 5\/s +—/)
  })

  it('does not call a draw a defeat', () => {
    const bytes = { 'geo-registry': [100_000_402], NGINX: [100_000_000] }

    expect(markdownComparison(comparisonOf({ crowdBytes: bytes }))).not.toContain('**')
  })

  it('tells what failed from what cannot be run', () => {
    const table = markdownComparison(
      comparisonOf({ manifestAsked: { 'geo-registry': [10] } }, ['docker-registry, warm manifests: no']),
    )

    expect(line(table, 'asked at each pull')).toContain('| failed | — |')
  })

  it('gives the answer with the time it took, and silence as such', () => {
    const table = markdownComparison(
      comparisonOf({
        outageTagFirst: {
          'geo-registry': [{ value: 905, said: '200' }],
          'docker-registry': [{ value: 12_000, said: 'no answer' }],
          NGINX: [
            { value: 10_000, said: '200' },
            { value: 10_000, said: '504' },
          ],
        },
      }),
    )

    expect(line(table, 'first pull')).toContain(
      '| 200 after 905 ms | no answer in 12 000 ms | 200 or 504 after 10 000 ms |',
    )
  })
})

describe('the chart of peers', () => {
  const words = { title: 'ours & <theirs>', lines: ['2 cores'] }
  const rows = {
    manifestByDigest: { 'geo-registry': [1000], 'docker-registry': [250], NGINX: [] },
    outageTagFirst: { 'geo-registry': [{ value: 905, said: '200' }] },
  }

  it('draws bars in proportion, with figures beside them and nothing where there is none', () => {
    const chart = chartOf(comparisonOf(rows), words)

    const widths = ['ours', 'registry', 'nginx'].map((name) =>
      Number(new RegExp(`class="${name}"[^>]* width="([\\d.]+)"`).exec(chart)?.[1]),
    )
    expect(widths[0]).toBeGreaterThan(300)
    expect(widths[1]).toBeCloseTo((widths[0] ?? 0) / 4, 1)
    expect(widths[2]).toBe(0)
    expect(plain(chart)).toContain('>1 000/s<')
    expect(chart).toContain('>—<')
  })

  it('is one whole document that every viewer takes, whatever the words', () => {
    const chart = chartOf(comparisonOf(rows), words)

    expect(chart).toContain('ours &amp; &lt;theirs&gt;')
    const tags = [...chart.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)].filter(
      ([, , , selfClosing]) => !selfClosing,
    )
    const open: string[] = []
    for (const [, end, name = ''] of tags) {
      if (end) expect(open.pop()).toBe(name)
      else open.push(name)
    }
    expect(open).toEqual([])
    expect(chart).not.toMatch(/NaN|undefined|Infinity/)
  })

  it('can be read on a light page and on a dark one', () => {
    const chart = chartOf(comparisonOf(rows), words)

    expect(chart).toContain('prefers-color-scheme: dark')
    expect(chart).toContain('<rect class="ground"')
  })

  it('leaves out what is no length', () => {
    expect(chartOf(comparisonOf(rows), words)).not.toContain('never answers')
  })
})

describe('the rounds', () => {
  it('take the contenders in an order that a seed gives again', () => {
    const items = ['a', 'b', 'c', 'd']
    const orders = (seed: number) => {
      const chance = createChance(seed)
      return Array.from({ length: 50 }, () => shuffled(items, chance).join(''))
    }

    expect(orders(7)).toEqual(orders(7))
    expect(new Set(orders(7)).size).toBeGreaterThan(12)
    expect(orders(7).every((order) => [...order].toSorted().join('') === 'abcd')).toBe(true)
    expect(items).toEqual(['a', 'b', 'c', 'd'])
  })

  it('have no middle without figures', () => {
    expect(middle([])).toBeUndefined()
    expect(middle([{ value: 1 }, { value: 9 }, { value: 3 }])).toEqual({ value: 3 })
  })

  it('count what the primary was asked for and not what was pushed to it or pinged', () => {
    const metrics = [
      '# TYPE registry_http_requests_total counter',
      'registry_http_requests_total{code="200",handler="base",method="get"} 6',
      'registry_http_requests_total{code="206",handler="blob",method="get"} 11',
      'registry_http_requests_total{code="200",handler="manifest",method="head"} 3',
      'registry_http_requests_total{code="202",handler="blob_upload",method="post"} 40',
      'registry_http_in_flight_requests{handler="blob"} 5',
    ].join('\n')

    expect(countRequests(metrics)).toBe(14)
  })
})
