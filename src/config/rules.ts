/**
 * What settings mean together: which exclude or need each other, and whether the files they name are what they should
 * be. Every rule looks only at settings that are there and valid by themselves, so that all of them can run on a faulty
 * configuration and report at once.
 */
import { formatAddress, isLoopback, isWildcard } from './addresses.ts'
import { checkFile, checkFolder, checkPair, FileFault } from './files.ts'
import { SETTING_PATHS, SETTINGS, type SettingPath, settingAt, type Values } from './settings.ts'
import type { Fault, Source } from './source.ts'

/** Every contradiction, missing setting and unusable file of `values`, which come from `source`. */
export function contradictions(source: Source, values: Partial<Values>): Fault[] {
  if (!source.complete) return [] // What the file would have said is unknown; most would be false alarms.
  const faults: Fault[] = []
  const given = (path: SettingPath) => source.given.has(path)
  const report = (path: string, message: string, origin?: string) => faults.push({ path, message, origin })
  const here = (section: 'auth.none' | 'auth.token' | 'upstream.auth') => source.sections.has(section)

  const needs = (paths: readonly SettingPath[], why: string) => {
    for (const path of paths) {
      if (!given(path)) report(path, `missing; expected ${SETTINGS[path].expected}${why}`)
    }
  }
  const refuses = (paths: readonly SettingPath[], why: string) => {
    for (const path of paths) if (given(path)) report(path, why, source.given.get(path)?.origin)
  }
  const together = (one: SettingPath, other: SettingPath) => {
    if (given(one) !== given(other)) needs([one, other], `, since ${given(one) ? one : other} is set`)
  }
  const notBoth = (value: SettingPath, file: SettingPath) => {
    if (given(value)) refuses([file], `expected only one of ${value} and ${file}`)
  }

  const required = SETTING_PATHS.filter((path) => settingAt(path).required)
  needs(required, '')

  notBoth('http.secret', 'http.secretfile')
  notBoth('http.admin.token', 'http.admin.tokenfile')
  notBoth('upstream.auth.password', 'upstream.auth.passwordfile')
  notBoth('replication.notifications.secret', 'replication.notifications.secretfile')
  notBoth('tracking.postgres.url', 'tracking.postgres.urlfile')
  notBoth('redis.url', 'redis.urlfile')
  together('http.tls.certificate', 'http.tls.key')
  together('upstream.tls.certificatefile', 'upstream.tls.keyfile')
  listeners()
  upstreamCredential()
  callers()
  replication()
  files()
  return faults

  function listeners(): void {
    const open = values['http.addr']
    const admin = values['http.admin.addr']
    if (open && isWildcard(open) && !given('http.host')) {
      needs(['http.host'], ', since http.addr listens on every address and names none that clients could use')
    }
    if (admin && !isLoopback(admin) && !given('http.admin.token') && !given('http.admin.tokenfile')) {
      needs(
        ['http.admin.tokenfile'],
        `, since http.admin.addr ${formatAddress(admin)} can be reached from elsewhere`,
      )
    }
    if (open && admin && open.port !== 0 && formatAddress(open) === formatAddress(admin)) {
      report('http.admin.addr', `expected another address than http.addr, ${formatAddress(open)}`)
    }
  }

  function upstreamCredential(): void {
    if (!here('upstream.auth')) return
    const minted: SettingPath[] = ['upstream.auth.keyfile', 'upstream.auth.issuer', 'upstream.auth.service']
    const login: SettingPath[] = [
      'upstream.auth.username',
      'upstream.auth.password',
      'upstream.auth.passwordfile',
      'upstream.auth.realm',
    ]
    if (minted.some(given)) {
      refuses(login, 'expected either keyfile, issuer and service, or username and password, not both')
      needs(minted, ', beside the other settings of upstream.auth')
    } else if (login.some(given)) {
      needs(['upstream.auth.username'], ', beside the password')
      if (!given('upstream.auth.password')) needs(['upstream.auth.passwordfile'], ', beside the username')
    } else {
      report(
        'upstream.auth',
        'empty; expected keyfile, issuer and service, or username and password, or no such section',
        source.sections.get('upstream.auth'),
      )
    }
  }

  function callers(): void {
    // A client certificate opens the primary's door as much as a password does.
    const hasCredential = here('upstream.auth') || given('upstream.tls.certificatefile')
    if (here('auth.token') === here('auth.none')) {
      report('auth', 'expected exactly one of auth.token and auth.none')
    } else if (here('auth.token')) {
      needs(['auth.token.realm', 'auth.token.service', 'auth.token.issuer'], '')
      if (!given('auth.token.rootcertbundle') && !given('auth.token.jwks')) {
        report('auth.token', 'expected rootcertbundle or jwks: the keys that sign tokens')
      }
    } else if (hasCredential && values['auth.none.public'] !== true) {
      report(
        'auth.none',
        'would show everybody what the credential of this site can read; expected auth.token, or public: true if that is meant',
        source.sections.get('auth.none'),
      )
    }
  }

  function replication(): void {
    const secret = given('replication.notifications.secret') || given('replication.notifications.secretfile')
    if (given('http.events.addr') && !secret) {
      needs(['replication.notifications.secretfile'], ', since http.events.addr is set')
    }
    const events = values['http.events.addr']
    for (const other of ['http.addr', 'http.admin.addr'] as const) {
      const taken = values[other]
      if (events && taken && events.port !== 0 && formatAddress(events) === formatAddress(taken)) {
        report('http.events.addr', `expected another address than ${other}, ${formatAddress(taken)}`)
      }
    }
    if (values['replication.enabled'] === true && here('auth.token') && !here('upstream.auth')) {
      needs(
        ['upstream.auth.keyfile'],
        ', since replication.enabled is true and the site has to read by itself',
      )
    }
  }

  function files(): void {
    const attempt = (path: SettingPath, check: () => void) => {
      try {
        check()
      } catch (error) {
        if (!(error instanceof FileFault)) throw error
        report(path, error.message, source.given.get(path)?.origin)
        return false
      }
      return true
    }
    const usable = new Map<SettingPath, string>()
    for (const path of SETTING_PATHS) {
      const { file } = settingAt(path)
      const name = values[path]
      if (file === undefined || typeof name !== 'string') continue
      if (attempt(path, () => checkFile(file, name))) usable.set(path, name)
    }
    const pair = (certificate: SettingPath, key: SettingPath) => {
      const [certificateFile, keyFile] = [usable.get(certificate), usable.get(key)]
      if (certificateFile && keyFile) attempt(key, () => checkPair(certificateFile, keyFile))
    }
    pair('http.tls.certificate', 'http.tls.key')
    pair('upstream.tls.certificatefile', 'upstream.tls.keyfile')
    const root = values['storage.filesystem.rootdirectory']
    if (root) attempt('storage.filesystem.rootdirectory', () => checkFolder(root))
  }
}
