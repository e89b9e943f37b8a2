/** Law 5 for lists: in an outage the tags of a repository that is here whole stand in, and nothing else does. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { until } from '../support/wait.ts'
import { sourceOf } from './one-site.ts'
import { type ReplicatedSite, SECRET, startReplicatedSite } from './replicated-site.ts'

let site: ReplicatedSite

beforeAll(async () => {
  site = await startReplicatedSite({ repositories: ['team/whole', 'team/changed', 'team/unknown'] })
  const image = await buildImage({ layers: [2000] })
  for (const name of ['team/whole', 'team/changed']) {
    for (const tag of ['v1', 'v2', 'v3']) await pushImage(site.there, name, tag, image)
  }
  await until(async () => (await site.inStep()).tags === 6, { what: 'six tags to be in step' })
  await site.primary.stop()
})
afterAll(() => site[Symbol.asyncDispose]())

describe('while the primary is away', () => {
  it('the tags of a repository that is here whole are listed, marked as what was last confirmed', async () => {
    const list = await site.here.tags('team/whole')

    expect([list.status, sourceOf(list)]).toEqual([200, 'stale'])
    expect(JSON.parse(list.body.toString())).toEqual({ name: 'team/whole', tags: ['v1', 'v2', 'v3'] })
    expect(list.headers['warning']).toMatch(/^299 - "the primary registry cannot be reached; last confirmed /)
  })

  it('they come page by page as clients ask for them', async () => {
    const first = await site.here.tags('team/whole', '?n=2')
    const second = await site.here.tags('team/whole', '?n=2&last=v2')

    expect(JSON.parse(first.body.toString()).tags).toEqual(['v1', 'v2'])
    expect(first.headers['link']).toBe('</v2/team/whole/tags/list?n=2&last=v2>; rel="next"')
    expect(JSON.parse(second.body.toString()).tags).toEqual(['v3'])
    expect(second.headers['link']).toBeUndefined()
  })

  it('those of a repository that is not known to be here whole are refused', async () => {
    expect((await site.here.tags('team/unknown')).status).toBe(503)
  })

  it('those of a repository of which something was heard since are refused', async () => {
    const target = {
      repository: 'team/changed',
      tag: 'v4',
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
    }
    const response = await fetch(site.eventsUrl, {
      method: 'POST',
      headers: { authorization: SECRET, 'content-type': 'application/json' },
      body: JSON.stringify({ events: [{ id: 'one', action: 'push', target }] }),
    })
    expect(response.status).toBe(204)

    expect((await site.here.tags('team/changed')).status).toBe(503)
    expect((await site.here.tags('team/whole')).status).toBe(200)
  })
})
