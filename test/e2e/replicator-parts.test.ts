/** A site with Postgres and Redis, each taken away: no event it said yes to is lost, and pulls go on (law 10). */
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage, type Image } from '../support/images.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { pushImage } from '../support/push-image.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { until } from '../support/wait.ts'
import { sourceOf } from './one-site.ts'
import { registryFolder } from './registry-folder.ts'
import { type ReplicatedSite, SECRET, startReplicatedSite } from './replicated-site.ts'
import { expectSoundStore } from './store-files.ts'

let postgres: PostgresServer
let redis: RedisServer
let database: string
let site: ReplicatedSite
let held: Image
let pushes = 0

beforeAll(async () => {
  const servers = await Promise.all([startPostgres(), startRedis()])
  postgres = servers[0]
  redis = servers[1]
  database = await postgres.createDatabase()
  site = await startReplicatedSite({
    repositories: ['team/app', 'team/web'],
    config: {
      tracking: { postgres: { url: database } },
      redis: { url: redis.url },
    },
  })
  held = await pushNext('team/app')
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await postgres[Symbol.asyncDispose]()
  await redis[Symbol.asyncDispose]()
})

describe('a site with Postgres and Redis', () => {
  it('keeps in step', async () => {
    await pushNext('team/web')

    await site.converged()

    expect(await site.status()).toMatchObject({ healthy: true, container_repositories_count: 2 })
    await until(async () => (await site.command('status')).status === 0, { what: 'the command to say so' })
  })

  it('loses no event while Redis is away, and says what is wrong', async () => {
    await redis.stop()
    await pushNext('team/app')
    await pushNext('team/web')

    await pullsGoOn()
    expect(await site.status()).toMatchObject({
      healthy: false,
      queue: null,
      health: expect.stringContaining('The queue cannot be asked'),
    })
    await redis.start()
    await site.converged()
    expect(await site.status()).toMatchObject({ healthy: true })
  })

  it('converges when Redis is flushed under it', async () => {
    for (let burst = 0; burst < 5; burst++) {
      await Promise.all([pushNext('team/app'), pushNext('team/web'), redis.command('FLUSHALL')])
    }
    await redis.command('FLUSHALL')

    await site.converged()
  })

  it('takes events while Redis answers nobody', async () => {
    redis.freeze()
    await pushNext('team/app')
    expect(await postEvent('while-frozen')).toBe(204)
    await pullsGoOn()
    redis.thaw()

    await site.converged()
  })

  it('does again what was under way when Postgres went away', async () => {
    site.link.stall()
    await pushNext('team/web')
    await until(async () => (await site.rows()).some(({ state }) => state === 'started'), {
      what: 'a job to be under way',
    })
    await postgres.stop()
    site.link.resume()
    await until(() => site.one.site.logs().includes('what came of it not be settled'), {
      what: 'the job to end in vain',
    })
    await postgres.start()
    await leasesEnd()

    await site.converged()
  })

  it('answers events 503 while Postgres is away, and applies them once it is back', async () => {
    await postgres.stop()
    await until(async () => (await postEvent('a-probe')) === 503, { what: 'events to be answered 503' })
    const image = await pushNext('team/app')

    await pullsGoOn()
    expect(await site.status()).toMatchObject({
      healthy: false,
      in_step: false,
      container_repositories_count: null,
      events_pending: null,
      health: expect.stringContaining('The tracking database cannot be asked'),
    })
    // What no event could tell of is not hidden by what is here: a pull asks the primary.
    expect((await site.here.getManifest('team/app', `v${pushes}`)).digest).toBe(image.digest)
    await postgres.start()
    await site.converged()
    // The registry sends again what was answered 503, now and then after the site has found out by itself.
    await until(
      async () => {
        const { healthy, events_pending: pending } = await site.status()
        return healthy && pending === 0
      },
      { what: 'the events that come again to be applied' },
    )
  })

  it('starts without either, serves what is here, and is in step once both are back', async () => {
    await site.one.site.stop()
    await Promise.all([postgres.stop(), redis.stop()])
    await pushNext('team/web')

    await site.one.site.start()

    await pullsGoOn()
    expect((await site.command('status')).status).toBe(1)
    await Promise.all([postgres.start(), redis.start()])
    await site.converged(30_000)
    expect(await postEvent('another-probe')).toBe(204)
  })

  it('serves what is here with the primary away as well', async () => {
    await Promise.all([postgres.stop(), redis.stop()])
    site.link.refuse()
    site.link.cut()

    const answer = await site.here.getManifest('team/app', 'v1')
    expect([answer.status, answer.digest]).toEqual([200, held.digest])
    await pullsGoOn()

    await Promise.all([postgres.start(), redis.start(), site.link.accept()])
    await site.converged(30_000)
    await expectSoundStore(site.one.site.root)
  })

  it('shows every tag that was ever pushed', async () => {
    expect(pushes).toBeGreaterThan(15)
    expect(Object.keys(await registryFolder(site.one.site.root).allTags())).toHaveLength(pushes)
  })
})

async function pushNext(name: string): Promise<Image> {
  pushes++
  const tag = `v${pushes}`
  const image = await buildImage({ seed: `parts ${tag}`, layers: [1000] })
  await pushImage(site.there, name, tag, image)
  return image
}

async function pullsGoOn(): Promise<void> {
  for (const { digest } of held.blobs) {
    const answer = await site.here.getBlob('team/app', digest)
    expect([answer.status, answer.digest, sourceOf(answer)]).toEqual([200, digest, 'local'])
  }
  expect((await site.here.getManifest('team/app', held.digest)).status).toBe(200)
  const readiness = await fetch(`${site.one.site.adminUrl}/-/readiness`)
  expect(readiness.status).toBe(200)
}

/** What a job that could not be settled held for 15 s: as if they had passed. */
async function leasesEnd(): Promise<void> {
  const client = new Client({ connectionString: database })
  await client.connect()
  await client.query(`update tracked_repositories set lease_expires_at = 0 where state = 'started'`)
  await client.end()
}

/** A push of the held tag, told once more; resolves with what it was answered. */
async function postEvent(id: string): Promise<number> {
  const { digest } = held
  const target = { mediaType: held.mediaType, digest, repository: 'team/app', tag: 'v1' }
  const response = await fetch(site.eventsUrl, {
    method: 'POST',
    headers: { authorization: SECRET, 'content-type': 'application/json' },
    body: JSON.stringify({ events: [{ id, action: 'push', target }] }),
  })
  await response.body?.cancel()
  return response.status
}
