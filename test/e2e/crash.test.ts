/**
 * Law 1: kill -9 of a whole site at random moments of fills and pushes. What is published afterwards is whole, a fill
 * goes on where it stopped, and what a client was told is true. `CRASH_SEED` repeats a run.
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createChance } from '../support/chance.ts'
import { type Content, randomContent } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { type Link, startLink } from '../support/link.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { expectSoundStore, spoolsOf } from './store-files.ts'

const SEED = Number(process.env['CRASH_SEED'] ?? Date.now() % 1_000_000)
const NAME = 'team/app'
const MIB = 1024 * 1024
const LARGE_BYTES = 288 * MIB
const FILL_KILLS = 6
const PUSH_KILLS = 8

let primary: DockerRegistry
let there: RegistryApi
beforeAll(async () => {
  primary = await startDockerRegistry()
  there = createRegistryApi(primary.url)
})
afterAll(async () => {
  for (const owned of [there, primary]) await owned[Symbol.asyncDispose]()
})

/** A site of the primary and the line between them; each test has its own, so that none checks what another left. */
interface KilledSite extends AsyncDisposable {
  readonly link: Link
  readonly here: RegistryApi
  readonly root: string
  /** Kills the site, shows that what lies on the disk is whole, and starts it again. */
  killAndRestart(): Promise<void>
}

async function startSite(): Promise<KilledSite> {
  await using starting = new AsyncDisposableStack()
  const link = starting.use(await startLink({ target: primary.url }))
  const config = { auth: { none: { push: true } } }
  const site = starting.use(await startGeoRegistry({ primary: link.url, config }))
  const here = starting.use(createRegistryApi(site.url))
  const owned = starting.move()
  return {
    link,
    here,
    root: site.root,
    async killAndRestart() {
      await site.kill()
      await expectSoundStore(site.root)
      await site.start()
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function heldBlob(sizeBytes: number, seed: string): Promise<Content> {
  const content = await randomContent(sizeBytes, { seed: `${seed} ${SEED}` })
  expect((await there.pushBlob(NAME, content)).status).toBe(201)
  return content
}

/** How much of a fill its spool's map says is safely on the disk. */
async function resumableBytes(root: string, { digest }: Content): Promise<number> {
  const maps = (await spoolsOf(root)).filter((path) => path.endsWith(`${digest.slice(7)}.json`))
  const [map] = await Promise.all(maps.map((path) => readFile(path, 'utf8')))
  const { segments } = JSON.parse(map ?? '{"segments":[]}') as { segments: [number, number][] }
  return segments.reduce((sum, [start, end]) => sum + end - start, 0)
}

// One after the other: they hash all that they read, and side by side would only wait for each other.
describe(`a site that is killed (CRASH_SEED=${SEED})`, { timeout: 120_000 }, () => {
  it('at random moments of fills shows nothing that is not whole, and the next pull is right', async () => {
    await using site = await startSite()
    const { link, here } = site
    const random = createChance(SEED)
    link.shape({ bytesPerSecond: 80e6 })
    for (let kill = 0; kill < FILL_KILLS; kill++) {
      const content = await heldBlob(24 * MIB, `fill ${kill}`)
      const pull = here.getBlob(NAME, content.digest).catch(() => undefined)
      await delay(random() * 450)
      await site.killAndRestart()
      const cut = await pull
      // It may have been quicker than the kill; it must never have ended well with less.
      if (cut && !cut.cut) expect([cut.status, cut.digest]).toEqual([200, content.digest])

      expect((await here.getBlob(NAME, content.digest)).digest).toBe(content.digest)
    }
    link.shape({})
    expect(await expectSoundStore(site.root)).toBeGreaterThanOrEqual(FILL_KILLS - 1)
  })

  it('three times during one large fill fetches less than two of it', async () => {
    await using site = await startSite()
    const { link, here } = site
    const random = createChance(SEED + 1)
    const content = await heldBlob(LARGE_BYTES, 'large')
    link.shape({ bytesPerSecond: 120e6 })
    const from = link.counts().down
    for (let kill = 1; kill <= 3; kill++) {
      const pull = here.getBlob(NAME, content.digest).catch(() => undefined)
      // Each time further than the last: starting anew would make it 64 + 128 + 192 MiB and the blob.
      await until(async () => (await resumableBytes(site.root, content)) >= kill * 64 * MIB, {
        what: 'a part that survives',
        deadlineMs: 30_000,
      })
      await delay(random() * 150)
      await site.killAndRestart()
      await pull
    }

    expect((await here.getBlob(NAME, content.digest)).digest).toBe(content.digest)
    expect(link.counts().down - from).toBeLessThan(2 * LARGE_BYTES)
  })

  it('at random moments of pushes has nothing of its own that the primary has not, and no 201 was a lie', async () => {
    await using site = await startSite()
    const { link, here } = site
    const random = createChance(SEED + 2)
    link.shape({ bytesPerSecond: 40e6 })
    for (let kill = 0; kill < PUSH_KILLS; kill++) {
      const image = await buildImage({
        seed: `push ${kill} ${SEED}`,
        layers: [6 * MIB, 6 * MIB],
        gzip: false,
      })
      const told: string[] = []
      const push = pushAndTell(here, image, `v${kill}`, told)
      await delay(random() * 900)
      await site.killAndRestart()
      await push

      await expectPublished(here, image, `v${kill}`, told)
      await pushImage(here, NAME, `v${kill}`, image)
      const pulled = await here.getManifest(NAME, `v${kill}`)
      expect(pulled.digest).toBe(image.digest)
      for (const { digest } of image.blobs) expect((await here.getBlob(NAME, digest)).digest).toBe(digest)
    }
    link.shape({})
    expect(await expectSoundStore(site.root)).toBeGreaterThanOrEqual(PUSH_KILLS)
    await until(async () => (await spoolsOf(site.root)).length === 0, { what: 'no leftovers of captures' })
  })
})

/** Pushes as a client does, until the site dies; what was answered 201 is in `told`. */
async function pushAndTell(here: RegistryApi, image: Image, tag: string, told: string[]): Promise<void> {
  try {
    for (const blob of image.blobs) {
      if ((await here.pushBlob(NAME, blob)).status === 201) told.push(blob.digest)
    }
    const put = await here.putManifest(NAME, tag, image.bytes, image.mediaType)
    if (put.status === 201) told.push(image.digest)
  } catch {
    // The connection died with the site, which is what the test is about.
  }
}

/** What was answered 201 is at the primary, and the site shows it. */
async function expectPublished(
  here: RegistryApi,
  image: Image,
  tag: string,
  told: readonly string[],
): Promise<void> {
  for (const { digest } of image.blobs) {
    if (told.includes(digest)) expect((await there.getBlob(NAME, digest)).digest).toBe(digest)
  }
  if (told.includes(image.digest)) {
    expect((await there.getManifest(NAME, tag)).digest).toBe(image.digest)
    expect((await here.getManifest(NAME, tag)).digest).toBe(image.digest)
  }
}
