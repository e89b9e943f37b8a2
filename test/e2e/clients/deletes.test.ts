/** Deletes by a client: the primary decides, and what it removed is gone here at once, and only that. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Skopeo, startSkopeo } from '../../support/clients/skopeo.ts'
import { buildImage } from '../../support/images.ts'
import { pushImage } from '../../support/push-image.ts'
import { DEVELOPER, READER, startTwoSites, type TwoSites } from './two-sites.ts'

const owned = new AsyncDisposableStack()
let sites: TwoSites
let skopeo: Skopeo

beforeAll(async () => {
  // A long trust makes every confirmation that a delete should have withdrawn show.
  sites = owned.use(await startTwoSites({ tags: { trust: '1h' } }))
  skopeo = owned.use(await startSkopeo())
})
afterAll(() => owned.disposeAsync())

const remove = (name: string, reference: string) =>
  skopeo.exec(['delete', '--tls-verify=false', `docker://${sites.site.host}/${name}${reference}`])

it('skopeo deletes an image by its tag: its tags and its digest are gone at both ends, and nothing else is', async () => {
  await skopeo.login(sites.site.host, DEVELOPER.username, DEVELOPER.password)
  const doomed = await buildImage({ seed: 'doomed', layers: [5000] })
  const kept = await buildImage({ seed: 'kept', layers: [5000] })
  await pushImage(sites.here, 'team/app', 'v1', doomed)
  await pushImage(sites.here, 'team/app', 'also', doomed)
  await pushImage(sites.here, 'team/app', 'v2', kept)
  await pushImage(sites.here, 'team/other', 'v1', doomed)
  await remove('team/app', ':v1')

  for (const api of [sites.here, sites.there]) {
    for (const reference of ['v1', 'also', doomed.digest]) {
      const answer = await api.getManifest('team/app', reference)
      expect([reference, answer.status]).toEqual([reference, 404])
      expect(answer.body.toString()).toContain('MANIFEST_UNKNOWN')
    }
    expect((await api.getManifest('team/app', 'v2')).digest).toBe(kept.digest)
    expect((await api.getManifest('team/other', 'v1')).digest).toBe(doomed.digest)
  }
})

it('what was deleted is pushed again through the site and pulled again', async () => {
  const image = await buildImage({ seed: 'again', layers: [5000] })
  for (let round = 0; round < 3; round++) {
    await pushImage(sites.here, 'team/again', 'v1', image)
    expect((await sites.reader.getManifest('team/again', 'v1')).digest).toBe(image.digest)
    for (const { digest } of image.blobs) {
      expect((await sites.reader.getBlob('team/again', digest)).digest).toBe(digest)
    }
    await remove('team/again', `@${image.digest}`)
    expect((await sites.reader.getManifest('team/again', 'v1')).status).toBe(404)
  }
})

it('a delete of a tag alone, which docker-registry 2.8 does not do, is refused in its words', async () => {
  const image = await buildImage({ seed: 'tag alone', layers: [100] })
  await pushImage(sites.here, 'team/tag', 'v1', image)
  const there = await sites.there.deleteManifest('team/tag', 'v1')
  const here = await sites.here.deleteManifest('team/tag', 'v1')

  expect(there.status).toBeGreaterThanOrEqual(400)
  expect([here.status, here.body.toString()]).toEqual([there.status, there.body.toString()])
  expect((await sites.reader.getManifest('team/tag', 'v1')).digest).toBe(image.digest)
})

it('a layer deleted through the site is 404 here, and is pushed again by the next client that needs it', async () => {
  const image = await buildImage({ seed: 'layer', layers: [5000] })
  const layer = image.blobs[1]
  if (!layer) throw new Error('an image has layers')
  await pushImage(sites.here, 'team/layer', 'v1', image)
  expect((await sites.here.deleteBlob('team/layer', layer.digest)).status).toBe(202)

  expect((await sites.reader.getBlob('team/layer', layer.digest)).status).toBe(404)
  expect((await sites.here.pushBlob('team/layer', layer)).status).toBe(201)
  expect((await sites.reader.getBlob('team/layer', layer.digest)).digest).toBe(layer.digest)
})

it('who may only pull deletes nothing', async () => {
  const image = await buildImage({ seed: 'guarded', layers: [100] })
  await pushImage(sites.here, 'team/guarded', 'v1', image)
  await skopeo.login(sites.site.host, READER.username, READER.password)

  await expect(remove('team/guarded', ':v1')).rejects.toThrow(
    /denied|unauthorized|authentication required|401/i,
  )
  expect((await sites.reader.getManifest('team/guarded', 'v1')).digest).toBe(image.digest)
})

it('nothing is deleted while the primary is away: the client is told, and the image stays', async () => {
  const image = await buildImage({ seed: 'outage', layers: [100] })
  await pushImage(sites.here, 'team/outage', 'v1', image)
  await skopeo.login(sites.site.host, DEVELOPER.username, DEVELOPER.password)
  await sites.primary.stop()
  try {
    await expect(remove('team/outage', ':v1')).rejects.toThrow(/503/)
    expect((await sites.reader.getManifest('team/outage', 'v1')).digest).toBe(image.digest)
  } finally {
    await sites.primary.start()
  }
  expect((await sites.there.getManifest('team/outage', 'v1')).digest).toBe(image.digest)
})
