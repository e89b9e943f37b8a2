/** `status` of a relay, as a person and a script see it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type CommandOutput, runCommand } from '../../src/command.ts'
import { createLogger } from '../../src/log.ts'
import { startAdmin } from '../../src/status/admin.ts'
import { createRelayReport } from '../../src/status/relay-report.ts'
import { EPOCHS, type FakeRelay, fakeRelay, TOKYO } from '../status/fake-relay.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'

const HEALTHY = `                           Relay Information
--------------------------------------------
                                      Name: relay
                                   Primary: https://primary.example.com
                                  Geo Role: Relay
                             Health Status: Healthy
         This Relay's geo-registry Version: 1.2.3
                                       Log: 1000 to 12345, 3.0 MiB
                              Events taken: 4,321 (since 2026-11-22T00:00:00.000Z)

                       Proof of Completeness
--------------------------------------------
                                     Epoch: for 1 h
                                 Watermark: 640 ms old
                                  Canaries: 3,605 sent, 3,604 returned, 1 lost, 0 refused
                      Last end of an epoch: 1 h ago: The relay was started; nothing is to be done.

                                   Instances
--------------------------------------------
                      http://10.0.0.1:5000: canary 640 ms ago, process a1

                                       Sites
--------------------------------------------
                                     tokyo: connected, read up to 12345, in step
`

let owned: AsyncDisposableStack
beforeEach(() => {
  owned = new AsyncDisposableStack()
})
afterEach(async () => await owned.disposeAsync())

/** Runs a command against a relay in this state; `undefined`: it is starting. */
async function run(given: FakeRelay | undefined, args: readonly string[], onOut = () => {}) {
  const report = createRelayReport(fakeRelay(given), {
    name: 'relay',
    primary: 'https://primary.example.com',
    version: '1.2.3',
    now: () => Date.UTC(2026, 10, 22),
  })
  const { address } = owned.use(
    await startAdmin(
      { host: '127.0.0.1', port: 0 },
      {
        ready: async () => undefined,
        metrics: async () => '',
        status: () => (given === undefined ? undefined : report()),
      },
      { log: createLogger({ destination: { write: () => undefined } }), token: () => undefined },
    ),
  )
  const folder = owned.use(await tempFolder('relay-status'))
  const token = await folder.write('tokyo.token', 'token-of-tokyo')
  const file = await folder.write(
    'relay.yml',
    `
version: 1
upstream: { url: "https://primary.example.com" }
http: { events: { addr: "127.0.0.1:5013" }, admin: { addr: "127.0.0.1:${address.port}" } }
replication: { notifications: { secret: s } }
storage: { filesystem: { rootdirectory: "${folder.path}" } }
relay: { sites: [{ name: tokyo, tokenfile: "${token}" }] }
`,
  )
  let out = ''
  let err = ''
  const output: CommandOutput = {
    out: (text) => {
      out += text
      onOut()
    },
    err: (text) => {
      err += text
    },
  }
  const status = await runCommand([...args, '--config', file], output)
  return { status, out, err }
}

describe('status of a relay', () => {
  it('shows instances, the epoch, what ended the last one, and every site', async () => {
    expect(await run({}, ['status'])).toEqual({ status: 0, out: HEALTHY, err: '' })
  })

  it('says what is wrong and what to do, and ends with status 1', async () => {
    const end = { reason: 'canary-missing', instance: 'x', agoMs: 5000, sentence: 'A canary is lost; look.' }
    const epochs = { ...EPOCHS, epoch: undefined, ageMs: undefined, watermarkAgeMs: undefined, setback: end }
    const sites = [
      { ...TOKYO, connected: false, lastSeenMs: 200_000, behind: 7, lagMs: 190_000 },
      { ...TOKYO, name: 'lima', lastSeenMs: undefined, through: undefined },
      { ...TOKYO, name: 'oslo', through: undefined, behind: undefined, lagMs: undefined },
    ]
    const instances = [
      ...EPOCHS.instances,
      { address: 'b', instanceId: undefined, lastCanaryAgeMs: undefined },
    ]
    const { status, out } = await run(
      { epochs: { ...epochs, instances }, sites, note: 'A canary is lost; look.' },
      ['status'],
    )

    expect(status).toBe(1)
    expect(out).toContain('Health Status: Unhealthy')
    expect(out).toContain('Epoch: none\n')
    expect(out).toContain('And since: 5 s ago: A canary is lost; look.\n')
    expect(out).toContain('b: no canary has come back\n')
    expect(out).toContain(
      'tokyo: last seen 3 min 20 s ago, read up to 12345, 7 events behind, the oldest 3 min 10 s old\n',
    )
    expect(out).toContain('lima: never connected\n')
    expect(out).toContain('oslo: connected, place in the log unknown\n')
    expect(out).toContain(`Unhealthy:
- Completeness is not proved, so sites ask the primary at each pull by tag. A canary is lost; look.
- tokyo has not asked for the log for 3 min 20 s: see that it runs and that its line to here is up.
- lima has not asked`)
  })

  it('is content without an epoch where no instances are named', async () => {
    const { status, out } = await run({ epochs: undefined }, ['status'])

    expect(status).toBe(0)
    expect(out).toContain('Epoch: none: relay.instances is not set, so sites ask the primary\n')
    expect(out).not.toContain('Canaries')
  })

  it('gives programs the report as it is', async () => {
    const { out } = await run({}, ['status', '--json'])

    expect(JSON.parse(out)).toMatchObject({ role: 'relay', epoch: { id: 'e1' }, sites: [{ name: 'tokyo' }] })
  })

  it('says that it is starting, and that it has nothing that only sites have', async () => {
    expect(await run(undefined, ['status'])).toMatchObject({
      status: 1,
      err: 'the running process answered 503: the process is starting: ask again\n',
    })
    for (const command of [['gc'], ['resync', '--all'], ['plan']]) {
      const { status, err } = await run({}, command)
      expect(status).toBe(1)
      expect(err).toContain('runs no replicator')
    }
  })

  it('is printed again and again with --watch, until nothing answers any longer', async () => {
    let lines = 0
    const watched = run({}, ['status', '--watch', '--json'], () => lines++)
    await until(() => lines >= 2, { what: 'the second report' })
    await owned.disposeAsync()
    owned = new AsyncDisposableStack()

    expect(await watched).toMatchObject({ status: 1, err: expect.stringContaining('nothing listens') })
  })
})
