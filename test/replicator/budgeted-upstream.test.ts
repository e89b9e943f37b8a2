/** Every way to ask the primary goes through the budget, and nothing is asked for who left the line. */
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { Budget } from '../../replicator/budget.ts'
import { createBudgetedUpstream } from '../../replicator/budgeted-upstream.ts'
import { createBudget } from '../../replicator/request-budget.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseReference, parseRepositoryName } from '../../src/oci/reference.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import type { AskOptions, Upstream } from '../../src/upstream/upstream.ts'

const NAME = parseRepositoryName('group/app') ?? expect.unreachable()
const TAG = parseReference('latest') ?? expect.unreachable()
const DIGEST = digestOf(Buffer.from('content'))
const ORIGIN = 'https://registry.example.com'

const NO_LIMIT = createBudget({ requestsPerSecond: undefined, bytesPerSecond: undefined })

type Ask = (upstream: Upstream, ask: AskOptions) => Promise<unknown>
const EVERY_WAY: readonly [string, Ask, unknown][] = [
  ['getManifest', (upstream, ask) => upstream.getManifest(NAME, TAG, ask), 'not-modified'],
  ['confirmManifest', (upstream, ask) => upstream.confirmManifest(NAME, DIGEST, ask), undefined],
  ['confirmBlob', (upstream, ask) => upstream.confirmBlob(NAME, DIGEST, ask), 7],
  [
    'getBlob',
    (upstream, ask) => upstream.getBlob(NAME, DIGEST, ask),
    expect.objectContaining({ sizeBytes: 7 }),
  ],
  [
    'forward',
    (upstream, ask) =>
      upstream.forward({
        ...ask,
        method: 'GET',
        url: `${ORIGIN}/v2/_catalog`,
        headers: {},
        operation: 'read',
      }),
    expect.objectContaining({ status: 200 }),
  ],
]

/** Answers everything, and keeps what it was asked. */
function primary(): { readonly upstream: Upstream; readonly asked: unknown[][] } {
  const asked: unknown[][] = []
  return {
    asked,
    upstream: {
      origin: ORIGIN,
      async getManifest(...args) {
        asked.push(args)
        return 'not-modified'
      },
      async confirmManifest(...args) {
        asked.push(args)
      },
      async confirmBlob(...args) {
        asked.push(args)
        return 7
      },
      async getBlob(...args) {
        asked.push(args)
        return { offset: 0, endOffset: 7, sizeBytes: 7, body: Readable.from([]) }
      },
      async forward(...args) {
        asked.push(args)
        return { status: 200, headers: {}, body: Readable.from([]) }
      },
    },
  }
}

describe('the primary under a budget', () => {
  it.each(EVERY_WAY)(
    'answers %s once the budget lets it, with what it was asked',
    async (_name, way, answer) => {
      const { upstream, asked } = primary()
      const gate = Promise.withResolvers<void>()
      const places: unknown[][] = []
      const budget: Pick<Budget, 'request'> = {
        request: (...args) => {
          places.push(args)
          return gate.promise
        },
      }
      const budgeted = createBudgetedUpstream(upstream, { ...NO_LIMIT, ...budget })
      const ask: AskOptions = {
        credential: { kind: 'site' },
        signal: new AbortController().signal,
        requestId: 'r1',
      }

      const asking = way(budgeted, ask)
      await new Promise((resolve) => setImmediate(resolve))
      expect(asked).toEqual([])
      gate.resolve()
      const given = await asking

      expect(given).toEqual(answer)
      expect(asked).toHaveLength(1)
      expect(asked[0]?.at(-1)).toMatchObject(ask)
      expect(places).toEqual([[ask.signal, false]])
    },
  )

  it.each(EVERY_WAY)('is not asked (%s) for who gives up in the line', async (_name, way) => {
    const { upstream, asked } = primary()
    const budget = createBudget({ requestsPerSecond: 0.001, bytesPerSecond: undefined })
    await budget.request()
    const leaving = new AbortController()

    const asking = way(createBudgetedUpstream(upstream, budget), {
      credential: { kind: 'site' },
      signal: leaving.signal,
    })
    leaving.abort(new Error('no longer wanted'))
    const error = await asking.catch((reason: unknown) => reason)

    expect(error).toBeInstanceOf(UpstreamError)
    expect(error).toMatchObject({ kind: 'aborted', cause: new Error('no longer wanted') })
    expect(asked).toEqual([])
  })

  it('lets urgent work go first', async () => {
    const { upstream, asked } = primary()
    const budget = createBudget({ requestsPerSecond: 50, bytesPerSecond: undefined })
    budget.spend(0, 60)
    const ask = (requestId: string): AskOptions => ({ credential: { kind: 'site' }, requestId })

    await Promise.all([
      createBudgetedUpstream(upstream, budget).confirmBlob(NAME, DIGEST, ask('ordinary')),
      createBudgetedUpstream(upstream, budget, { urgent: true }).confirmBlob(NAME, DIGEST, ask('urgent')),
    ])

    expect(asked.map((args) => args.at(-1))).toMatchObject([
      { requestId: 'urgent' },
      { requestId: 'ordinary' },
    ])
  })

  it('says where it is', () => {
    expect(createBudgetedUpstream(primary().upstream, NO_LIMIT).origin).toBe(ORIGIN)
  })
})
