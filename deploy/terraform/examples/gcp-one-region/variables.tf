variable "project" {
  description = "Project of Google Cloud, with the Compute Engine, Cloud DNS and Monitoring APIs enabled."
  type        = string
}

variable "emails" {
  description = "Who is told of alarms."
  type        = list(string)
  default     = []
}
