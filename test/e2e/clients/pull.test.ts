/** Pulls by every real client through the site: content of the primary's, and each byte of it over the link once. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allBlobs, buildImage, type Format, type Image } from '../../support/images.ts'
import { CLIENT_NAMES, type EveryClient, pulledDigest, startEveryClient } from './every-client.ts'
import { answersTo, placesOf, READER, startTwoSites, type TwoSites } from './two-sites.ts'

/** What a question without an answer's body costs: a token, headers, and now and then a ping to keep a connection. */
const FEW_KIB = 8 * 1024

const owned = new AsyncDisposableStack()
let sites: TwoSites
let clients: EveryClient

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  clients = owned.use(await startEveryClient())
  await clients.login(sites.site.host, READER)
})
afterAll(() => owned.disposeAsync())

describe.each(CLIENT_NAMES)('%s', (name) => {
  describe.each(['oci', 'docker'] as const)('an image of %s media types', (format: Format) => {
    const repository = `team/${name}-${format}`
    let image: Image
    let byTag: string
    let byDigest: string

    beforeAll(async () => {
      image = await buildImage({ format, seed: repository, layers: [150_000, 250_000] })
      byTag = `${sites.site.host}/${repository}:v1`
      byDigest = `${sites.site.host}/${repository}@${image.digest}`
      await sites.publish(repository, 'v1', image)
    })

    it('is pulled cold by its tag, and no byte of it crosses the link twice', async () => {
      let pulled: string | undefined
      const watched = await sites.watch(async () => {
        pulled = await pulledDigest(clients.get(name), byTag)
      })

      expect(pulled).toBe(image.digest)
      const sizeBytes = allBlobs(image).reduce((total, blob) => total + blob.sizeBytes, image.bytes.length)
      expect(watched.linkBytes).toBeGreaterThan(sizeBytes)
      expect(watched.linkBytes).toBeLessThan(sizeBytes + 2 * FEW_KIB)
      const blobs = answersTo(watched, 'GET', /\/blobs\//)
      expect([blobs.length, placesOf(blobs)]).toEqual([allBlobs(image).length, ['fill']])
    })

    it('is then pulled by another client for the price of a tag check', async () => {
      let pulled: string | undefined
      const watched = await sites.watch(async () => {
        pulled = await pulledDigest(clients.otherThan(name), byTag)
      })

      expect(pulled).toBe(image.digest)
      expect(watched.linkBytes).toBeGreaterThan(0)
      expect(watched.linkBytes).toBeLessThan(FEW_KIB)
      expect(placesOf(watched.answers)).toEqual(['local'])
      expect(answersTo(watched, 'GET', /\/blobs\//)).toHaveLength(allBlobs(image).length)
    })

    it('is pulled by its digest without asking the primary for anything', async () => {
      let pulled: string | undefined
      const watched = await sites.watch(async () => {
        pulled = await pulledDigest(clients.get(name), byDigest)
      })

      expect(pulled).toBe(image.digest)
      expect(watched.linkBytes).toBeLessThan(1024)
      expect(placesOf(watched.answers)).toEqual(['local'])
    })
  })

  it('pulls cold by digest what no tag names', async () => {
    const image = await buildImage({ seed: `${name} without a tag`, layers: [60_000] })
    const repository = `team/${name}-untagged`
    await sites.publish(repository, image.digest, image)

    expect(await pulledDigest(clients.get(name), `${sites.site.host}/${repository}@${image.digest}`)).toBe(
      image.digest,
    )
  })

  it('pulls what a tag means now, each time it is moved at the primary', async () => {
    const repository = `team/${name}-moving`
    for (const seed of ['first', 'second']) {
      const image = await buildImage({ seed: `${name} ${seed}`, layers: [20_000] })
      await sites.publish(repository, 'latest', image)

      expect(await pulledDigest(clients.get(name), `${sites.site.host}/${repository}:latest`)).toBe(
        image.digest,
      )
    }
  })

  it('is told that there is no such tag', async () => {
    await expect(clients.get(name).pull(`${sites.site.host}/team/${name}-oci:nothing`)).rejects.toThrow(
      /manifest unknown|not found/i,
    )
  })
})
