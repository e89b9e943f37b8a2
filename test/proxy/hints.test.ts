/** What clients do that is worth a look by the replicator, and what is not. */
import { expect, it } from 'vitest'
import type { Handlers } from '../../proxy/app.ts'
import type { Exchange } from '../../proxy/exchange.ts'
import { createHinting } from '../../proxy/hints.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName } from '../../src/oci/reference.ts'

const name = parseRepositoryName('team/app') ?? expect.unreachable('it is a name')
const route = { kind: 'blob', name, digest: digestOf(Buffer.from('blob')) } as const

/** Hints that come of a blob read which was answered from `source` and ends as `read` does. */
async function hintsOf(source: Exchange['source'], read: () => Promise<void>): Promise<string[]> {
  const hints: string[] = []
  const handlers = { readBlob: read } as Partial<Handlers> as Handlers
  const { readBlob } = createHinting(handlers, (hinted) => hints.push(hinted))
  await readBlob({ source } as Exchange, route).catch(() => undefined)
  return hints
}

const left = async () => {
  throw new Error('the client left')
}

it('tells of a blob that was left half fetched, and of no other', async () => {
  expect(await hintsOf('fill', left)).toEqual(['team/app'])
  expect(await hintsOf('fill', async () => undefined)).toEqual([])
  expect(await hintsOf('local', left)).toEqual([])
  expect(await hintsOf('primary', left)).toEqual([])
})
