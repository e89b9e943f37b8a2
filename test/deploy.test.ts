/** The files of `deploy/` that a sysadmin copies do what their comments say. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { LogPage } from '../replicator/relay/page.ts'
import { loadConfig } from '../src/config.ts'
import { signingKey } from './support/keys.ts'
import { startNginx } from './support/nginx.ts'
import { freePort } from './support/port.ts'
import { startRelayProcess } from './support/relay.ts'
import { type TempFolder, tempFolder } from './support/temp.ts'

const DEPLOY = join(import.meta.dirname, '../deploy')
const read = (name: string) => readFile(join(DEPLOY, name), 'utf8')

/** `deploy/relay.yml` with every file it names in this folder. */
async function relayConfigIn(folder: TempFolder): Promise<string> {
  const key = await signingKey()
  await folder.write('relay.crt', key.certificatePem)
  for (const name of ['relay.key', 'gitlab-registry.key']) await folder.write(name, key.privateKeyPem)
  for (const name of ['notifications.secret', 'tokyo.token', 'lima.token']) await folder.write(name, name)
  return (await read('relay.yml')).replaceAll('/etc/geo-registry', folder.path)
}

describe('deploy', () => {
  it("has a relay's configuration that is right as it stands, once its files are there", async () => {
    await using folder = await tempFolder('deploy')
    const text = await relayConfigIn(folder)
    const { relay } = loadConfig({
      file: await folder.write('relay.yml', text),
      environment: {},
      side: 'relay',
    }).config

    expect(relay?.instances).toEqual(['http://10.0.0.11:5000', 'http://10.0.0.12:5000'])
    expect(relay?.sites.map(({ name }) => name)).toEqual(['tokyo', 'lima'])
  })

  it('has the settings that are commented out as they are by default', async () => {
    await using folder = await tempFolder('deploy')
    const text = await relayConfigIn(folder)
    const shown = text.replace(/^ {2}# (canary|queuesize|retention):/gm, '  $1:')
    const configs = await Promise.all(
      [text, shown].map(async (yaml, index) =>
        loadConfig({ file: await folder.write(`${index}.yml`, yaml), environment: {} }),
      ),
    )

    expect(shown).not.toBe(text)
    expect(configs[1]?.config).toEqual(configs[0]?.config)
  })

  it('has an NGINX that lets the questions of sites wait, and nothing else through', async () => {
    await using relay = await startRelayProcess({ primary: `http://127.0.0.1:${await freePort()}` })
    const conf = await read('nginx-relay.conf')
    const locations = conf.slice(conf.indexOf('    location'), conf.lastIndexOf('}'))
    await using nginx = await startNginx({
      servers: [{ extra: locations.replace('http://127.0.0.1:5012', relay.url) }],
    })
    const headers = { authorization: 'Bearer token-of-tokyo' }
    const begin = (await (await fetch(`${nginx.url}/log`, { headers })).json()) as LogPage
    const askedAtMs = performance.now()
    const waited = await fetch(`${nginx.url}/log?after=0&log=${begin.log}&wait=2500`, { headers })

    expect(waited.status).toBe(200)
    expect(performance.now() - askedAtMs).toBeGreaterThan(2000)
    expect((await fetch(`${nginx.url}/log`)).status).toBe(401)
    expect((await fetch(`${nginx.url}/other`, { headers })).status).toBe(404)
  })

  it.each([
    ['geo-registry.service', 'serve', 'config.yml'],
    ['geo-registry-relay.service', 'relay', 'relay.yml'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: systemd fills it in.
    ['geo-registry@.service', '${ROLE}', 'config.yml'],
  ])('has a %s that looks the configuration over and starts %s with it', async (unit, command, file) => {
    const text = await read(unit)
    const program = '/opt/geo-registry/node_modules/.bin/node src/main.ts'

    expect(text).toContain(`\nExecStartPre=${program} config check --config /etc/geo-registry/${file}\n`)
    expect(text).toContain(`\nExecStart=${program} ${command} --config /etc/geo-registry/${file}\n`)
    expect(text.match(/^\[\w+\]$/gm)).toEqual(['[Unit]', '[Service]', '[Install]'])
  })
})
