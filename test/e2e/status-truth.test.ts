/** Law 9: every number of the status is the number one counts, with things broken on purpose. */
import { copyFile, open, rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import type { StatusReport } from '../../src/status/status-report.ts'
import { buildImage, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { sourceOf } from './one-site.ts'
import { recountRows, recountTags } from './recount.ts'
import { registryFolder } from './registry-folder.ts'
import { type ReplicatedSite, startReplicatedSite } from './replicated-site.ts'

const TAGS = Array.from({ length: 20 }, (_, number) => `t${number}`)
let site: ReplicatedSite
let aside: TempFolder
const images = new Map<string, Image>()

beforeAll(async () => {
  aside = await tempFolder('aside')
  site = await startReplicatedSite({ repositories: ['team/app', 'team/sound'] })
  await site.admin('POST', '/pause')
  for (const tag of TAGS) {
    const image = await buildImage({ seed: tag, layers: [2000, 3000] })
    images.set(tag, image)
    await pushImage(site.there, 'team/app', tag, image)
  }
  await pushImage(site.there, 'team/sound', 'v1', imageOf('t0'))
  await loseAtPrimary(layerOf('t7'))
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await aside[Symbol.asyncDispose]()
})

describe('the status', () => {
  it('counts what was heard of and not applied, while it is paused', async () => {
    await until(async () => ((await site.status()).events_pending ?? 0) >= TAGS.length + 1, {
      what: 'all events to be here',
    })
    const status = await site.status()

    expect(status).toMatchObject(recountRows(site))
    expect(status).toMatchObject({ paused: true, in_step: false, cursor_last_event_id: 0 })
    expect(status.lag_seconds).toBeGreaterThan(0)
  })

  it('counts the one tag of 20 that cannot be copied, and the 19 others are here', async () => {
    await site.admin('POST', '/resume')

    const status = await settled()

    expect(status).toMatchObject({
      ...recountRows(site),
      ...(await recountTags(site)),
      failing_tags: 1,
      bytes_outstanding: sizeOf(layerOf('t7')),
      container_repositories_synced_count: 1,
      container_repositories_failed_count: 1,
      events_pending: 0,
      in_step: false,
    })
    const here = await registryFolder(site.one.site.root).tags('team/app')
    expect([...here.keys()]).toEqual(TAGS.filter((tag) => tag !== 't7').sort(byText))
    const { failingTags } = (await site.admin('GET', '/repositories/team/app')) as {
      failingTags: readonly unknown[]
    }
    expect(failingTags).toEqual([
      expect.objectContaining({ tag: 't7', digest: imageOf('t7').digest, kind: 'absent' }),
    ])
    expect((await site.command('status')).status).toBe(1)
  })

  it('counts what a scrub found damaged here and the primary can no longer give', async () => {
    await loseAtPrimary(layerOf('t3'))
    await damageHere(layerOf('t3'))
    await site.reconfigure({ replication: { scrub: '2s' } })

    await until(async () => (await site.status()).failing_tags === 2, { what: 'the damage to be found' })
    const status = await settled()

    expect(status).toMatchObject({ ...recountRows(site), ...(await recountTags(site)), failing_tags: 2 })
    expect(await site.one.site.metrics()).toMatch(/^geo_registry_scrub_damaged_total 1$/m)
    expect(status.bytes_outstanding).toBe(sizeOf(layerOf('t3')) + sizeOf(layerOf('t7')))
  })

  it('is in step once the primary has again what it lost', async () => {
    for (const digest of [layerOf('t3'), layerOf('t7')]) await giveBack(digest)
    expect(await site.command('resync', '--failed')).toMatchObject({ status: 0 })

    await site.converged()

    expect(await site.status()).toMatchObject({
      ...recountRows(site),
      ...(await recountTags(site)),
      failing_tags: 0,
      blobs_outstanding: 0,
      bytes_outstanding: 0,
    })
    expect((await site.command('status')).status).toBe(0)
    expect((await site.here.getBlob('team/app', layerOf('t3'))).digest).toBe(layerOf('t3'))
  })

  it('finds by reconciliation alone what no event told of, and says as of when it speaks', async () => {
    await site.primary.restart({ notifications: { endpoints: [] } })
    const image = await buildImage({ seed: 'never told', layers: [1000] })
    await pushImage(site.there, 'team/app', 'untold', image)
    await site.there.deleteManifest('team/app', imageOf('t9').digest)
    const pushedAt = Math.floor(Date.now() / 1000)
    // It does not know, and claims nothing beyond its inventory.
    expect((await site.status()).inventory_timestamp).toBeLessThanOrEqual(pushedAt)

    await site.reconfigure({ replication: { reconcile: '1s' } })
    await site.converged()

    const status = await until(
      async () => {
        const said = await site.status()
        return (said.inventory_timestamp ?? 0) >= pushedAt && said.in_step && said
      },
      { what: 'an inventory from after the push' },
    )
    expect(status).toMatchObject({ ...(await recountTags(site)), failing_tags: 0, tags: TAGS.length + 1 })
  })

  it('tells the age of its oldest inventory, not one it remembers', async () => {
    await site.reconfigure({})
    const status = await until(
      async () => {
        const said = await site.status()
        return said.reconcile?.achieved_period_seconds !== null && said
      },
      { what: 'the reconciler to have looked' },
    )
    expect(periodError(status)).toBeLessThan(1.5)

    await site.admin('POST', '/repositories/reverify?all=true')
    await until(async () => (await site.status()).inventory_timestamp !== status.inventory_timestamp, {
      what: 'another inventory',
    })
    expect(periodError(await site.inStep())).toBeLessThan(1.5)
  })

  it('counts reads by where they came from, what was saved, and what the store holds', async () => {
    await site.reconfigure({})
    const counted = { local: 0, fill: 0, primary: 0, stale: 0 }
    let savedBytes = 0
    for (const tag of ['t1', 't2', 'untold']) {
      const answers = [
        await site.here.getManifest('team/app', tag).then((read) => ({ ...read, bytes: read.body.length })),
        ...(await Promise.all(
          (images.get(tag)?.blobs ?? []).map(async ({ digest }) => {
            const read = await site.here.getBlob('team/app', digest)
            return { ...read, bytes: read.sizeBytes }
          }),
        )),
      ]
      for (const answer of answers) {
        expect(answer.status).toBe(200)
        const source = sourceOf(answer) as keyof typeof counted
        counted[source]++
        if (source === 'local' || source === 'stale') savedBytes += answer.bytes
      }
    }
    const status = await until(
      async () => {
        const said = await site.status()
        return said.store?.bytes != null && said
      },
      { what: 'the store to be measured' },
    )

    expect(status.reads).toEqual(counted)
    expect(status.bytes_saved).toBe(savedBytes)
    expect(counted.local).toBeGreaterThan(6)
    expect(status.store?.bytes).toBe(await registryFolder(site.one.site.root).blobBytes())
  })
})

/** Seconds between the period that is told and the age of the inventory that is told, which is in whole seconds. */
function periodError({ updated_at, inventory_timestamp, reconcile }: StatusReport): number {
  const ageSeconds = Date.parse(updated_at) / 1000 - (inventory_timestamp ?? Number.NaN)
  return Math.abs(ageSeconds - (reconcile?.achieved_period_seconds ?? Number.NaN))
}

/** When no job runs or waits any longer. */
async function settled(): Promise<StatusReport> {
  return await until(
    async () => {
      const rows = await site.rows()
      const status = await site.status()
      return rows.every(({ state }) => state === 'synced' || state === 'failed') && rows.length > 0 && status
    },
    { what: 'the jobs to end' },
  )
}

function imageOf(tag: string): Image {
  const image = images.get(tag)
  if (!image) throw new Error(`no image ${tag}`)
  return image
}

function layerOf(tag: string): Digest {
  const layer = imageOf(tag).blobs.at(-1)
  if (!layer) throw new Error(`${tag} has no layer`)
  return layer.digest
}

function sizeOf(digest: Digest): number {
  const blob = [...images.values()].flatMap(({ blobs }) => blobs).find((each) => each.digest === digest)
  return blob?.sizeBytes ?? Number.NaN
}

async function loseAtPrimary(digest: Digest): Promise<void> {
  const file = registryFolder(site.primary.root).blob(digest)
  await copyFile(file, `${aside.path}/${digest}`)
  await rm(file)
}

async function giveBack(digest: Digest): Promise<void> {
  await copyFile(`${aside.path}/${digest}`, registryFolder(site.primary.root).blob(digest))
}

/** One byte in the middle, the size unchanged. */
async function damageHere(digest: Digest): Promise<void> {
  await using file = await open(registryFolder(site.one.site.root).blob(digest), 'r+')
  const position = Math.floor((await file.stat()).size / 2)
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, position)
  await file.write(Buffer.from([255 - (buffer[0] ?? 0)]), 0, 1, position)
}

function byText(one: string, other: string): number {
  return one < other ? -1 : 1
}
