import { describe, expect, it } from 'vitest'
import type { Access } from '../../proxy/exchange.ts'
import { createStandings } from '../../proxy/standing.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, type RepositoryName } from '../../src/oci/reference.ts'
import { StoreError } from '../../src/store/blob-store.ts'
import type { Link, RepositoryIndex } from '../../src/store/repository-index.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'

const NAME = parseRepositoryName('team/app') as RepositoryName
const DIGEST = digestOf(Buffer.from('x'))
const NOW = 1_000_000
const RECHECK = 1000
const caller: Access = {
  credential: { kind: 'caller', authorization: 'Bearer t' },
  mayWrite: false,
  onlyPrimary: false,
}

/** `answer`: how the primary takes the question; it is counted. */
function settleWith(options: { link: Link | undefined; answer?: unknown; away?: boolean; access?: Access }) {
  let asked = 0
  const standings = createStandings({
    index: {} as RepositoryIndex,
    confirm: async () => {
      asked++
      if (options.answer !== undefined) throw options.answer
    },
    primaryIsAway: () => options.away ?? false,
    checkMs: 1000,
    recheckMs: RECHECK,
    now: () => NOW,
  })
  const settled = standings.settle(NAME, 'layer', DIGEST, options.link, options.access ?? caller)
  return settled.then(
    ({ staleSinceMs }) => ({ served: staleSinceMs ?? 'fresh', asked }),
    (error: unknown) => ({ refused: error instanceof UpstreamError ? error.kind : String(error), asked }),
  )
}

const link = (confirmedAtMs: number | undefined): Link => ({ target: DIGEST, confirmedAtMs })
const outage = new UpstreamError('unavailable', 'away')

describe('content that is here', () => {
  it.each([
    ['confirmed within recheck, without asking', { link: link(NOW - 10) }, { served: 'fresh', asked: 0 }],
    [
      'past recheck once the primary confirms it',
      { link: link(NOW - RECHECK) },
      { served: 'fresh', asked: 1 },
    ],
    ['past recheck in an outage, as stale', { link: link(1), answer: outage }, { served: 1, asked: 1 }],
    [
      'past recheck while the primary is known to be away, without asking',
      { link: link(1), away: true },
      { served: 1, asked: 0 },
    ],
    [
      'confirmed in the future of a clock set back, once the primary confirms it',
      { link: link(NOW + 5) },
      { served: 'fresh', asked: 1 },
    ],
    [
      'whose yes could not be written down',
      { link: undefined, answer: new StoreError('full', 'full') },
      { served: 'fresh', asked: 1 },
    ],
  ])('is served: %s', async (_title, options, outcome) => {
    expect(await settleWith(options)).toEqual(outcome)
  })

  const older: Access = { ...caller, onlyPrimary: true }
  it.each([
    [
      'never linked here, in an outage',
      { link: undefined, answer: outage },
      { refused: 'unavailable', asked: 1 },
    ],
    [
      'linked by an adopted folder alone, in an outage',
      { link: link(undefined), answer: outage },
      { refused: 'unavailable', asked: 1 },
    ],
    [
      'linked by an adopted folder alone, while the primary is away',
      { link: link(undefined), away: true, answer: outage },
      { refused: 'unavailable', asked: 1 },
    ],
    [
      'past recheck when the primary denies it',
      { link: link(1), answer: new UpstreamError('denied', '') },
      { refused: 'denied', asked: 1 },
    ],
    [
      'past recheck when the primary says it is gone',
      { link: link(1), answer: new UpstreamError('absent', '') },
      { refused: 'absent', asked: 1 },
    ],
    [
      'past recheck when the primary asks to wait',
      { link: link(1), answer: new UpstreamError('limited', '') },
      { refused: 'limited', asked: 1 },
    ],
    [
      'of an older project, in an outage, however fresh',
      { link: link(NOW), answer: outage, access: older },
      { refused: 'unavailable', asked: 1 },
    ],
  ])('is not served: %s', async (_title, options, outcome) => {
    expect(await settleWith(options)).toEqual(outcome)
  })
})
