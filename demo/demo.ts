/**
 * `npm run demo`: one URL for two sites, on real programs. Pushes and pulls with skopeo, then takes the relay, the primary
 * and the token service away. `--once` ends when all is printed; otherwise everything is left running.
 */
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { startSkopeo } from '../test/support/clients/skopeo.ts'
import { buildImage } from '../test/support/images.ts'
import { installPrograms } from '../test/support/install.ts'
import { bearer, fetchToken } from '../test/support/login.ts'
import { writeOciLayout } from '../test/support/oci-layout.ts'
import { ProgramError } from '../test/support/process.ts'
import { createRegistryApi } from '../test/support/registry-api.ts'
import { tempFolder } from '../test/support/temp.ts'
import { until } from '../test/support/wait.ts'
import { isInStep, proofAgeSeconds, requestsToPrimary, sources, statusLines, tagIsHere } from './evidence.ts'
import { DEVELOPER, MAX_STALENESS_SECONDS, READER, type Sites, startSites } from './sites.ts'
import { printHead, printStep } from './table.ts'

const print = (line: string) => void process.stdout.write(`${line}\n`)
/** A proof begins 5 s after whatever ended the one before. */
const PROOF_DEADLINE_MS = 60_000
/** The site writes its log lines together. */
const LOG_BATCH_MS = 150
const endsAtOnce = process.argv.includes('--once')

await installPrograms(['docker-registry', 'skopeo', 'openssl'])
await using sites = await startSites()
const { primary, relay, secondary, tokens, link } = sites
await using skopeo = await startSkopeo()
await using folder = await tempFolder('demo-images')

const pushed = await buildImage({ layers: [3_000_000, 9_000_000], seed: 'pushed through the site' })
const published = await buildImage({ layers: [4_000_000, 16_000_000], seed: 'published at the primary' })
const unheard = await buildImage({ layers: [2_000_000, 6_000_000], seed: 'news from the primary' })
await writeOciLayout(`${folder.path}/app`, pushed)
await writeOciLayout(`${folder.path}/base`, published)
await writeOciLayout(`${folder.path}/news`, unheard)
await skopeo.login(primary.host, DEVELOPER.username, DEVELOPER.password)
await skopeo.login(secondary.host, DEVELOPER.username, DEVELOPER.password)

print(`
  clients ──► secondary ${secondary.url} ──► primary ${primary.url}
              geo-registry serve                   docker-registry, 40 ms away
                       │                           │ notifies
                       └─────── follows ─────────► relay ${relay.url}: geo-registry relay
              tokens by ${tokens.realm}
`)
printHead(print)

const app = `docker://${secondary.host}/demo/app:v1`
const base = `docker://${secondary.host}/demo/base:v1`
const news = `docker://${secondary.host}/demo/news:v1`
let pulls = 0
const pull = (image: string) => skopeo.copy(image, `oci:${folder.path}/pulled-${++pulls}:v1`)

await step('push demo/app:v1 through the secondary', () => skopeo.copy(`oci:${folder.path}/app:latest`, app))
await step('push demo/base:v1 straight to the primary', () =>
  skopeo.copy(`oci:${folder.path}/base:latest`, `docker://${primary.host}/demo/base:v1`),
)
await step('pull demo/base:v1, cold', () => pull(base))
await step('pull demo/base:v1, warm', () => pull(base))
await step('pull demo/app:v1, kept as it was pushed', () => pull(app))
await step('… until the relay has proved that it hears all', proved)
await step('push demo/news:v1 straight to the primary', () =>
  skopeo.copy(`oci:${folder.path}/news:latest`, `docker://${primary.host}/demo/news:v1`),
)
await step('… which the relay tells of, until it is there', () =>
  until(() => tagIsHere(secondary, 'demo/news', 'v1', unheard.digest), {
    what: 'demo/news:v1 to be there',
    everyMs: 5,
  }),
)
await step('pull demo/news:v1, which came by itself', () => pull(news))
// What jobs ask of the primary must not count among the next pulls'.
await until(() => isInStep(secondary), { what: 'the copy to be in step', deadlineMs: 30_000 })
await step('pull demo/news:v1, known to be current', () => pull(news))

await relay.stop()
print('  the relay is stopped')
await step(`… until its last word is over ${MAX_STALENESS_SECONDS} s old`, () =>
  until(async () => (await proofAgeSeconds(secondary)) > MAX_STALENESS_SECONDS, {
    what: 'the proof to grow old',
    deadlineMs: PROOF_DEADLINE_MS,
  }),
)
await step('pull demo/news:v1, asked of the primary again', () => pull(news))
const token = await fetchToken(tokens, ['repository:demo/base:pull'], READER)

await primary.stop()
print('  the primary is stopped')
await step('pull demo/base:v1', () => pull(base))
await step('pull demo/app:v1', () => pull(app))
await step('pull demo/other:v1, which nobody has pulled here', () =>
  pull(`docker://${secondary.host}/demo/other:v1`),
)
await step('push demo/app:v2', () =>
  skopeo.copy(`oci:${folder.path}/base:latest`, `docker://${secondary.host}/demo/app:v2`),
)

await tokens.stop()
print('  the token service is stopped too')
await step('pull demo/base:v1 with a new login', () => pull(base))
await step('pull demo/base:v1 with a token issued before', () => pullWithToken(sites, token))

await tokens.start()
await primary.start()
await relay.start()
print('  all three are back')
await step('push demo/app:v2', () =>
  skopeo.copy(`oci:${folder.path}/base:latest`, `docker://${secondary.host}/demo/app:v2`),
)
await step('… until all is proved again', proved)
print(`
geo-registry status, of the relay and of the secondary, among other things:`)
const shown = /^ *(Epoch|Watermark|Canaries|Last end of an epoch|tokyo|Replication lag|Relay): /
for (const { configFile } of [relay, secondary]) print((await statusLines(configFile, shown)).join('\n'))
print('')

if (!endsAtOnce) {
  print(`Everything is left running; Ctrl-C ends it. To try (any client with plain http to 127.0.0.1):
  skopeo login --tls-verify=false -u ${DEVELOPER.username} -p ${DEVELOPER.password} ${secondary.host}
  skopeo copy --src-tls-verify=false ${app} dir:/tmp/app
  curl -si ${secondary.url}/v2/
  npm start -- status --config ${secondary.configFile}
  npm start -- status --config ${relay.configFile}
  curl -s ${secondary.adminUrl}/metrics | grep geo_registry_reads_total
  kill -STOP ${relay.pid}     # a relay that proves nothing more: soon the primary is asked again; kill -CONT ends it
  kill -STOP ${primary.pid}     # a primary that accepts and never answers; kill -CONT brings it back
users: ${DEVELOPER.username}/${DEVELOPER.password} may push, ${READER.username}/${READER.password} may pull`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
}

/** Runs a step and prints its line; a client's failure is an outcome to show, not the demo's own. */
async function step(asked: string, run: () => Promise<unknown>): Promise<void> {
  const [before, requests] = [link.counts(), await requestsToPrimary(secondary)]
  const line = secondary.lines.length
  const startedAtMs = performance.now()
  let outcome = 'done'
  try {
    await run()
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error
    outcome = lastWords(error)
  }
  const tookMs = performance.now() - startedAtMs
  await delay(LOG_BATCH_MS)
  const after = link.counts()
  const linkBytes = after.up - before.up + after.down - before.down
  printStep(print, {
    asked,
    answeredFrom: sources(secondary, line),
    tookMs,
    requests: (await requestsToPrimary(secondary)) - requests,
    linkBytes,
    outcome,
  })
}

/** Resolves when the secondary may answer by what the relay has proved. */
async function proved(): Promise<void> {
  await until(async () => (await proofAgeSeconds(secondary)) < MAX_STALENESS_SECONDS, {
    what: 'the relay to prove that it hears all',
    deadlineMs: PROOF_DEADLINE_MS,
  })
}

async function pullWithToken({ secondary }: Sites, token: string): Promise<void> {
  await using api = createRegistryApi(secondary.url, { authorize: () => bearer(token) })
  const manifest = await api.getManifest('demo/base', 'v1')
  if (manifest.digest !== published.digest) throw new Error(`unexpected answer ${manifest.status}`)
  for (const { digest } of published.blobs) {
    const blob = await api.getBlob('demo/base', digest)
    if (blob.digest !== digest) throw new Error(`unexpected answer ${blob.status} for ${digest}`)
  }
}

function lastWords(error: ProgramError): string {
  const last = error.message.trim().split('\n').at(-1) ?? ''
  const said = /msg="(.*)"$/.exec(last)?.[1] ?? last
  return said.length > 110 ? `…${said.slice(-110)}` : said
}
