import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { printConfig } from '../../src/config/print.ts'
import type { Environment } from '../../src/config.ts'
import { configOf, loadText, SMALLEST } from './given.ts'

async function printed(yaml: string, environment: Environment = {}): Promise<string> {
  const { config, effective } = await loadText(yaml, environment)
  return printConfig(effective, config.upstream.proxies)
}

it('says for every value whether the file, a variable or a default gave it', async () => {
  const text = await printed(SMALLEST, { GEO_REGISTRY__HTTP__LIMITS__FILLS: '7' })

  expect(text).toMatch(/^ {2}url: https:\/\/registry\.primary\.example\.com +# \S+\/config\.yml:3$/m)
  expect(text).toMatch(/^ {4}fills: 7 +# GEO_REGISTRY__HTTP__LIMITS__FILLS$/m)
  expect(text).toMatch(/^ {2}maxstale: 24h +# default$/m)
  for (const line of text.trimEnd().split('\n')) expect(line).toMatch(/^ *\w+:$|# (default|GEO_|\/)/)
})

it('is a configuration itself, with the same effect', async () => {
  const yaml = `${SMALLEST}
site: { name: "0123" }
http: { trustedproxies: [10.0.0.0/8, "fd00::/8"], addr: "[::1]:5010", limits: { uploadbytes: 1MiB } }
`
  const again = await configOf(await printed(yaml))

  expect(again).toEqual(await configOf(yaml))
})

it('masks secrets, also those of variables and proxies', async () => {
  const text = await printed(`${SMALLEST}\nhttp: { secret: hunter2 }`, {
    GEO_REGISTRY__HTTP__ADMIN__TOKEN: 'hunter3',
    HTTPS_PROXY: 'http://user:hunter4@proxy:3128',
    NO_PROXY: '.example.com',
  })

  expect(text).not.toContain('hunter')
  expect(parse(text)).toMatchObject({ http: { secret: '********', admin: { token: '********' } } })
  expect(text).toContain('# HTTPS_PROXY: http://user:********@proxy:3128/\n# NO_PROXY: .example.com\n')
})
